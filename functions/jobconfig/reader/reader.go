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

// Reader reads values from a tree of YAML, and goes on after each that is wrong.
type Reader struct {
	// Mistakes and Warnings are what was found so far.
	Mistakes, Warnings []Mistake
	// visited bounds what aliases multiply.
	visited int
}

// maxVisited is how many values a file may have, those that aliases repeat among them.
const maxVisited = 50000

// Value is a value in the file, with its path, as "actions[0].name".
type Value struct {
	Node *yaml.Node
	Path string
}

// IsNull says whether it is nothing: null, ~, or just left out.
func (at Value) IsNull() bool {
	return at.Node.Kind == yaml.ScalarNode && at.Node.ShortTag() == "!!null"
}

// isPlain says whether it is a scalar that is neither null nor a list or map.
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

// Follow is what an alias stands for. That one stands for itself, YAML refuses.
func Follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// Found says what stands there, for a message.
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

// Wrong adds a mistake, whose sentence begins by the value's path.
func (r *Reader) Wrong(at Value, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	if at.Path != "" {
		text = at.Path + " " + text
	}
	r.Mistakes = append(r.Mistakes, Mistake{Line: at.Node.Line, Column: at.Node.Column, Path: at.Path, Text: text})
}

// Warn adds a warning, in the same form.
func (r *Reader) Warn(at Value, format string, arguments ...any) {
	r.Warnings = append(r.Warnings, Mistake{
		Line: at.Node.Line, Column: at.Node.Column, Path: at.Path, Text: at.Path + " " + fmt.Sprintf(format, arguments...),
	})
}

// IsTooMuch says whether no more can be read.
func (r *Reader) IsTooMuch(at Value) bool {
	r.visited++
	if r.visited == maxVisited {
		r.Wrong(at, "is too much: the file has more than %d values, with those that its aliases repeat", maxVisited)
	}
	return r.visited >= maxVisited
}

// Fields are the keys that a map may have, each with what reads it.
type Fields map[string]func(Value)

// Object reads a map, of which nothing is an empty one. Keys that begin with x- are the
// author's own.
func (r *Reader) Object(at Value, known Fields) {
	switch {
	case at.IsNull():
	case at.Node.Kind != yaml.MappingNode:
		r.Wrong(at, "must be a map, not %s", at.Found())
	default:
		r.members(at, at.Node, known, map[string]int{})
	}
}

// members reads the members of a map, then those that it merges (<<) and does not have.
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

// mergedBy are the maps that a merge key names: one, or a list of them.
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

// synonyms are what other formats, such as Kubernetes', GitHub's or GitLab's, call a key, in small
// letters. The first that is known there is meant.
var synonyms = map[string][]string{
	"on": {"event"}, "trigger": {"event"}, "triggers": {"events"}, "when": {"event"}, "if": {"jsonpath"}, "type": {"name"}, "needs": {"tasks"},
	"steps": {"tasks"}, "jobs": {"tasks"}, "stages": {"tasks"}, "task": {"tasks"}, "containers": {"tasks"}, "action": {"actions"},
	"command": {"cmd"}, "entrypoint": {"cmd"}, "run": {"cmd"}, "script": {"cmd"}, "arguments": {"args"},
	"workingdirectory": {"workingDir"}, "workdir": {"workingDir"}, "serviceaccountname": {"serviceAccount"}, "pullpolicy": {"imagePullPolicy"},
	"timeout": {"maxPollDuration"}, "activedeadlineseconds": {"maxPollDuration"}, "timeoutseconds": {"maxPollDuration"}, "ttl": {"ttlSecondsAfterFinished"},
	"volumemounts": {"volumes"}, "environment": {"env"}, "variables": {"env"}, "secret": {"secretKeyRef"}, "configmap": {"configMapKeyRef"},
	"retry": {"retries"}, "backofflimit": {"retries"}, "pullsecrets": {"imagePullSecrets"}, "path": {"property"}, "equals": {"match"}, "value": {"match"},
}

// actionKeys are keys of an action that a task is often given.
var actionKeys = map[string]bool{"parallel": true, "silent": true, "events": true, "event": true, "tasks": true}

// synonymOf says which of some keys was meant by a word of another format; nothing if none was.
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

// didYouMean asks whether one of some texts was meant; nothing if none is like it.
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

// List reads each item of a list, of which nothing is an empty one.
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

// Text reads a text; what is written without quotes is one, too, and nothing is an empty
// one, as yaml.v2 and so the job-executor-service have it.
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

// template says that a map may be {{ … }} of a template, which YAML reads as a map in a map.
func template(node *yaml.Node) string {
	if node.Kind == yaml.MappingNode && len(node.Content) > 0 && Follow(node.Content[0]).Kind == yaml.MappingNode {
		return "; this looks like a template that was not filled in"
	}
	return ""
}

// OneOf reads one of several texts; an empty one is always allowed.
func (r *Reader) OneOf(at Value, allowed ...string) string {
	text := r.Text(at)
	if text != "" && !slices.Contains(allowed, text) {
		r.Wrong(at, "%q must be one of %s%s", Cut(text), strings.Join(allowed, ", "), didYouMean(text, allowed))
	}
	return text
}

// Texts reads a list of texts.
func (r *Reader) Texts(at Value) (list []string) {
	r.List(at, func(item Value) { list = append(list, r.Text(item)) })
	return list
}

// Words reads a list of texts, or one text, which is one word.
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

// Boolean reads true or false; nil for nothing.
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

// Integer reads a whole number within limits; nil for nothing.
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

// Cut is the beginning of a text, for a message.
func Cut(text string) string {
	const longest = 80
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// Pairs reads a map of texts, or a list of such maps. Check says what is wrong with a
// name, as the end of a sentence; nothing if it is right.
func (r *Reader) Pairs(at Value, check func(name string) string) map[string]string {
	pairs := map[string]string{}
	var read func(at Value)
	merge := func(at Value, nodes []*yaml.Node) {
		for _, node := range nodes {
			for index := 0; index+1 < len(node.Content); index += 2 {
				key := Follow(node.Content[index])
				if _, own := pairs[key.Value]; own || key.ShortTag() == "!!merge" || r.IsTooMuch(at) {
					continue // what is written here wins
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

// Strict reads a value into a pointer, as JSON is read by the json tags of its type. A
// member that there is not is a mistake. It returns whether it could be read.
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

// kindOf names a type as an author of YAML knows it.
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
