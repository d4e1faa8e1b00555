package reader

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v4"
	kjson "sigs.k8s.io/json"
)

// Reader parses values of a YAML tree, and continues after invalid ones.
type Reader struct {
	// Mistakes and Warnings have what was found so far.
	Mistakes, Warnings []Mistake
	// visited counts values, including those that aliases repeat.
	visited int
}

// maxVisited bounds the values of a file, including those that aliases repeat.
const maxVisited = 50000

// Value is a value in the file with its path, such as "actions[0].name".
type Value struct {
	Node *yaml.Node
	Path string
}

// IsNull reports whether the value is null, ~ or empty.
func (at Value) IsNull() bool {
	return at.Node.Kind == yaml.ScalarNode && at.Node.ShortTag() == "!!null"
}

// isPlain reports whether the value is a scalar but not null.
func (at Value) isPlain() bool { return at.Node.Kind == yaml.ScalarNode && !at.IsNull() }

// Member is a member of a map, with its path.
func (at Value) Member(name string, node *yaml.Node) Value {
	if at.Path != "" {
		name = at.Path + "." + name
	}
	return Value{Follow(node), name}
}

// Item returns an item of a list.
func (at Value) Item(index int) Value {
	return Value{Follow(at.Node.Content[index]), fmt.Sprintf("%s[%d]", at.Path, index)}
}

// Follow resolves an alias. YAML does not allow an alias to itself.
func Follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// Found describes the value, for a message.
func (at Value) Found() string {
	switch {
	case at.Node.Kind == yaml.SequenceNode:
		return "a list"
	case at.Node.Kind == yaml.MappingNode:
		return "a map"
	case at.IsNull():
		return "nothing"
	default:
		return fmt.Sprintf("%q", Cut(at.Node.Value))
	}
}

// Wrong adds a mistake. Its sentence begins with the value's path.
func (r *Reader) Wrong(at Value, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	if at.Path != "" {
		text = at.Path + " " + text
	}
	r.Mistakes = append(r.Mistakes, Mistake{Line: at.Node.Line, Column: at.Node.Column, Path: at.Path, Text: text})
}

// Warn adds a warning in the same form.
func (r *Reader) Warn(at Value, format string, arguments ...any) {
	r.Warnings = append(r.Warnings, Mistake{
		Line: at.Node.Line, Column: at.Node.Column, Path: at.Path, Text: at.Path + " " + fmt.Sprintf(format, arguments...),
	})
}

// IsTooMuch reports whether the limit of values is reached.
func (r *Reader) IsTooMuch(at Value) bool {
	r.visited++
	if r.visited == maxVisited {
		r.Wrong(at, "is too much: the file has more than %d values, with those that its aliases repeat", maxVisited)
	}
	return r.visited >= maxVisited
}

// Fields are the keys of a map with their parsers.
type Fields map[string]func(Value)

// Object parses a map; null is an empty one. Keys with the prefix x- are ignored.
func (r *Reader) Object(at Value, known Fields) {
	switch {
	case at.IsNull():
	case at.Node.Kind != yaml.MappingNode:
		r.Wrong(at, "must be a map, not %s", at.Found())
	default:
		r.members(at, at.Node, known, map[string]int{})
	}
}

// members returns the members of a map, then merged ones (<<) that it does not have.
func (r *Reader) members(at Value, node *yaml.Node, known Fields, seen map[string]int) {
	merged := []*yaml.Node{}
	own := map[string]bool{}
	for index := 0; index+1 < len(node.Content); index += 2 {
		key := Follow(node.Content[index])
		member := at.Member(key.Value, node.Content[index+1])
		if r.IsTooMuch(member) {
			return
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, r.merged(member)...)
			continue
		}
		if line := seen[key.Value]; line != 0 {
			if own[key.Value] {
				r.Wrong(Value{key, member.Path}, "is given twice, first in line %d", line)
			}
			continue
		}
		seen[key.Value], own[key.Value] = key.Line, true
		read, ok := known[key.Value]
		switch {
		case ok:
			read(member)
		case !strings.HasPrefix(key.Value, "x-"):
			names := slices.Sorted(maps.Keys(known))
			instead := synonymOf(key.Value, names)
			if instead == "" {
				instead = didYouMean(key.Value, names)
			}
			if instead == "" && key.Value != "" {
				instead = "; there are " + strings.Join(names, ", ")
			}
			r.Wrong(Value{key, member.Path}, "is not known%s", instead)
		}
	}
	for _, other := range merged {
		r.members(at, other, known, seen)
	}
}

// merged returns the maps that a merge key refers to.
func (r *Reader) merged(at Value) []*yaml.Node {
	found := mergedBy(at.Node)
	if at.Node.Kind != yaml.MappingNode && (at.Node.Kind != yaml.SequenceNode || len(found) < len(at.Node.Content)) {
		r.Wrong(at, "must be a map to merge, or a list of maps, not %s", at.Found())
	}
	return found
}

// mergedBy returns the maps of a merge key: one, or a list.
func mergedBy(node *yaml.Node) (found []*yaml.Node) {
	if node.Kind == yaml.MappingNode {
		return []*yaml.Node{node}
	}
	for _, item := range node.Content {
		if item = Follow(item); item.Kind == yaml.MappingNode {
			found = append(found, item)
		}
	}
	return found
}

// synonyms are names of other formats, such as Kubernetes', GitHub's or GitLab's, for keys, in lower case. The
// first known one applies.
var synonyms = map[string][]string{
	"on": {"event"}, "trigger": {"event"}, "triggers": {"events"}, "when": {"event"}, "if": {"jsonpath"}, "type": {"name"}, "needs": {"tasks"},
	"steps": {"tasks"}, "jobs": {"tasks"}, "stages": {"tasks"}, "task": {"tasks"}, "containers": {"tasks"}, "action": {"actions"},
	"command": {"cmd"}, "entrypoint": {"cmd"}, "run": {"cmd"}, "script": {"cmd"}, "arguments": {"args"},
	"workingdirectory": {"workingDir"}, "workdir": {"workingDir"}, "serviceaccountname": {"serviceAccount"}, "pullpolicy": {"imagePullPolicy"},
	"timeout": {"maxPollDuration"}, "activedeadlineseconds": {"maxPollDuration"}, "timeoutseconds": {"maxPollDuration"}, "ttl": {"ttlSecondsAfterFinished"},
	"volumemounts": {"volumes"}, "environment": {"env"}, "variables": {"env"}, "secret": {"secretKeyRef"}, "configmap": {"configMapKeyRef"},
	"retry": {"retries"}, "backofflimit": {"retries"}, "pullsecrets": {"imagePullSecrets"}, "path": {"property"}, "equals": {"match"}, "value": {"match"},
}

// actionKeys are keys of an action that authors often give a task.
var actionKeys = map[string]bool{"parallel": true, "silent": true, "events": true, "event": true, "tasks": true}

// synonymOf returns the key that a word of another format means; empty if none.
func synonymOf(given string, known []string) string {
	for _, meant := range synonyms[strings.ToLower(given)] {
		if slices.Contains(known, meant) {
			return fmt.Sprintf("; did you mean %s?", meant)
		}
	}
	if actionKeys[given] && slices.Contains(known, "image") {
		return "; it belongs to the action"
	}
	return ""
}

// didYouMean suggests a similar text; empty if there is none.
func didYouMean(given string, known []string) string {
	const near = 2
	best, distance := "", near+1
	for _, name := range known {
		found := levenshtein.ComputeDistance(strings.ToLower(given), strings.ToLower(name))
		if found < len(name) && (found < distance || found == distance && strings.HasPrefix(name, given[:1])) {
			best, distance = name, found
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// List parses each item of a list; null is an empty one.
func (r *Reader) List(at Value, read func(Value)) {
	switch {
	case at.IsNull():
	case at.Node.Kind == yaml.MappingNode && len(at.Node.Content) == 0:
		r.Warn(at, "must be a list, not a map")
	case at.Node.Kind != yaml.SequenceNode:
		r.Wrong(at, "must be a list, not %s", at.Found())
	default:
		for index := range at.Node.Content {
			item := at.Item(index)
			if r.IsTooMuch(item) {
				return
			}
			read(item)
		}
	}
}

// Text parses a text. Unquoted scalars are texts, too, and null is an empty text, as in yaml.v2 and so in the
// job-executor-service.
func (r *Reader) Text(at Value) string {
	if at.Node.Kind != yaml.ScalarNode {
		r.Wrong(at, "must be text, not %s%s", at.Found(), template(at.Node))
		return ""
	}
	if at.IsNull() {
		return ""
	}
	return at.Node.Value
}

// template reports whether a map is {{ … }} of a template, which YAML parses as a map in a map.
func template(node *yaml.Node) string {
	if node.Kind == yaml.MappingNode && len(node.Content) > 0 && Follow(node.Content[0]).Kind == yaml.MappingNode {
		return "; this looks like a template that was not filled in"
	}
	return ""
}

// OneOf parses one of several texts. An empty text is always allowed.
func (r *Reader) OneOf(at Value, allowed ...string) string {
	text := r.Text(at)
	if text != "" && !slices.Contains(allowed, text) {
		r.Wrong(at, "%q must be one of %s%s", Cut(text), strings.Join(allowed, ", "), didYouMean(text, allowed))
	}
	return text
}

// Texts parses a list of texts.
func (r *Reader) Texts(at Value) (list []string) {
	r.List(at, func(item Value) { list = append(list, r.Text(item)) })
	return list
}

// Words parses a list of texts, or one text, which is a single word.
func (r *Reader) Words(at Value) []string {
	if !at.isPlain() {
		return r.Texts(at)
	}
	switch {
	case strings.ContainsAny(at.Node.Value, "&|;<>$`"):
		r.Warn(at, "is one word, and no shell reads it; write [sh, -c, %q]", at.Node.Value)
	case strings.Contains(at.Node.Value, " "):
		r.Warn(at, "is one word, blanks and all; write a list for several: [%s]", strings.Join(strings.Fields(at.Node.Value), ", "))
	}
	return []string{at.Node.Value}
}

// Boolean parses true or false; null is nil.
func (r *Reader) Boolean(at Value) *bool {
	var truth bool
	switch {
	case at.IsNull():
		return nil
	case at.Node.Kind != yaml.ScalarNode || at.Node.Decode(&truth) != nil:
		r.Wrong(at, "must be true or false, not %s", at.Found())
		return nil
	}
	return &truth
}

// Integer parses a whole number within limits; null is nil.
func (r *Reader) Integer(at Value, least, most int64) *int64 {
	var number float64
	switch {
	case at.IsNull():
		return nil
	case !at.isPlain() || at.Node.ShortTag() == "!!str" || at.Node.Decode(&number) != nil || number != math.Trunc(number):
		advice := ""
		if at.isPlain() && at.Node.ShortTag() == "!!str" {
			advice = "; write it without quotes and unit, for example 300"
		}
		r.Wrong(at, "must be a whole number, not %s%s", at.Found(), advice)
		return nil
	case number < float64(least) || number > float64(most):
		r.Wrong(at, "must be from %d to %d, not %s", least, most, Cut(at.Node.Value))
		return nil
	}
	return new(int64(number))
}

// Cut returns the beginning of a text, for a message.
func Cut(text string) string {
	const longest = 80
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// Pairs parses a map of texts, or a list of such maps. Check returns the end of a sentence about an invalid
// name; empty if it is valid.
func (r *Reader) Pairs(at Value, check func(name string) string) map[string]string {
	pairs := map[string]string{}
	var read func(at Value)
	merge := func(at Value, nodes []*yaml.Node) {
		for _, node := range nodes {
			for index := 0; index+1 < len(node.Content); index += 2 {
				key := Follow(node.Content[index])
				if _, own := pairs[key.Value]; own || key.ShortTag() == "!!merge" || r.IsTooMuch(at) {
					continue // explicit members take precedence
				}
				read(Value{&yaml.Node{Kind: yaml.MappingNode, Line: key.Line, Column: key.Column, Content: node.Content[index : index+2]}, at.Path})
			}
		}
	}
	read = func(at Value) {
		if at.Node.Kind != yaml.MappingNode {
			if !at.IsNull() {
				r.Wrong(at, "must be a map, not %s", at.Found())
			}
			return
		}
		var merged []*yaml.Node
		defer func() { merge(at, merged) }()
		for index := 0; index+1 < len(at.Node.Content); index += 2 {
			key := Follow(at.Node.Content[index])
			member := at.Member(key.Value, at.Node.Content[index+1])
			if r.IsTooMuch(member) {
				return
			}
			if key.ShortTag() == "!!merge" {
				merged = append(merged, r.merged(member)...)
				continue
			}
			if _, twice := pairs[key.Value]; twice {
				r.Wrong(Value{key, member.Path}, "is given twice")
			}
			if wrong := check(key.Value); wrong != "" {
				r.Wrong(Value{key, member.Path}, "%s", wrong)
			}
			pairs[key.Value] = r.Text(member)
		}
	}
	if at.Node.Kind == yaml.SequenceNode {
		r.List(at, read)
	} else {
		read(at)
	}
	return pairs
}

// Strict decodes a value into a pointer like JSON, by the json tags of its type. An unknown member is a
// mistake. It returns false if the value is invalid.
func (r *Reader) Strict(at Value, into any) bool {
	var plain any
	err := at.Node.Decode(&plain)
	var content []byte
	if err == nil {
		content, err = json.Marshal(plain)
	}
	if err == nil {
		var unknown []error
		unknown, err = kjson.UnmarshalStrict(content, into, kjson.DisallowUnknownFields)
		err = errors.Join(append([]error{err}, unknown...)...)
	}
	if err == nil {
		return true
	}
	told := ""
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		told = strings.TrimSuffix(": "+mismatch.Field, ": ") + fmt.Sprintf(": must be %s, not %s", kindOf(mismatch.Type), mismatch.Value)
	} else if _, name, found := strings.Cut(err.Error(), "unknown field "); found {
		name, _, _ = strings.Cut(name, "\n")
		told = ": there is no " + name
	}
	r.Wrong(at, "is not as Kubernetes has it%s", told)
	return false
}

// kindOf returns the name of a type in YAML's terms.
func kindOf(of reflect.Type) string {
	switch of.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number without quotes"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Pointer:
		return kindOf(of.Elem())
	default:
		return "a map"
	}
}
