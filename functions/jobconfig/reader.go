package jobconfig

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v4"
)

// reader reads values from a tree of YAML, and goes on after each that is wrong.
type reader struct {
	mistakes, warnings Mistakes
	// visited bounds what aliases multiply.
	visited int
}

// maxVisited is how many values a file may have, those that aliases repeat among them.
const maxVisited = 50000

// value is a value in the file, with its path, as "actions[0].name".
type value struct {
	node *yaml.Node
	path string
}

func (at value) isNull() bool {
	return at.node.Kind == yaml.ScalarNode && at.node.ShortTag() == "!!null"
}

// isPlain says whether it is a scalar that is neither null nor a list or map.
func (at value) isPlain() bool { return at.node.Kind == yaml.ScalarNode && !at.isNull() }

func (at value) member(name string, node *yaml.Node) value {
	if at.path != "" {
		name = at.path + "." + name
	}
	return value{follow(node), name}
}

// follow is what an alias stands for. That one stands for itself, YAML refuses.
func follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// found says what stands there, for a message.
func (at value) found() string {
	switch {
	case at.node.Kind == yaml.SequenceNode:
		return "a list"
	case at.node.Kind == yaml.MappingNode:
		return "a map"
	case at.isNull():
		return "nothing"
	default:
		return fmt.Sprintf("%q", cut(at.node.Value))
	}
}

func (reader *reader) wrong(at value, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	if at.path != "" {
		text = at.path + " " + text
	}
	reader.mistakes = append(reader.mistakes, Mistake{Line: at.node.Line, Column: at.node.Column, Text: text})
}

func (reader *reader) warn(at value, format string, arguments ...any) {
	reader.warnings = append(reader.warnings, Mistake{
		Line: at.node.Line, Column: at.node.Column, Text: at.path + " " + fmt.Sprintf(format, arguments...),
	})
}

// isTooMuch says whether no more can be read.
func (reader *reader) isTooMuch(at value) bool {
	reader.visited++
	if reader.visited == maxVisited {
		reader.wrong(at, "is too much: the file has more than %d values, with those that its aliases repeat", maxVisited)
	}
	return reader.visited >= maxVisited
}

// fields are the keys that a map may have, each with what reads it.
type fields map[string]func(value)

// object reads a map, of which nothing is an empty one. Keys that begin with x- are the
// author's own.
func (reader *reader) object(at value, known fields) {
	switch {
	case at.isNull():
	case at.node.Kind != yaml.MappingNode:
		reader.wrong(at, "must be a map, not %s", at.found())
	default:
		reader.members(at, at.node, known, map[string]int{})
	}
}

// members reads the members of a map, then those that it merges (<<) and does not have.
func (reader *reader) members(at value, node *yaml.Node, known fields, seen map[string]int) {
	merged := []*yaml.Node{}
	own := map[string]bool{}
	for index := 0; index+1 < len(node.Content); index += 2 {
		key := follow(node.Content[index])
		member := at.member(key.Value, node.Content[index+1])
		if reader.isTooMuch(member) {
			return
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, mergedBy(member.node)...)
			continue
		}
		if line := seen[key.Value]; line != 0 {
			if own[key.Value] {
				reader.wrong(value{key, member.path}, "is given twice, first in line %d", line)
			}
			continue
		}
		seen[key.Value], own[key.Value] = key.Line, true
		read, ok := known[key.Value]
		switch {
		case ok:
			read(member)
		case !strings.HasPrefix(key.Value, "x-"):
			reader.wrong(value{key, member.path}, "is not known%s", suggestion(key.Value, slices.Sorted(maps.Keys(known))))
		}
	}
	for _, other := range merged {
		reader.members(at, other, known, seen)
	}
}

// mergedBy are the maps that a merge key names: one, or a list of them.
func mergedBy(node *yaml.Node) (found []*yaml.Node) {
	if node.Kind == yaml.MappingNode {
		return []*yaml.Node{node}
	}
	for _, item := range node.Content {
		if item = follow(item); item.Kind == yaml.MappingNode {
			found = append(found, item)
		}
	}
	return found
}

// suggestion is what may have been meant, and what else there is.
func suggestion(given string, known []string) string {
	if given == "" {
		return ""
	}
	const near = 2
	best, distance := "", near+1
	for _, name := range known {
		found := levenshtein.ComputeDistance(strings.ToLower(given), strings.ToLower(name))
		if found < len(name) && (found < distance || found == distance && strings.HasPrefix(name, given[:1])) {
			best, distance = name, found
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; there are " + strings.Join(known, ", ")
}

// list reads each item of a list, of which nothing is an empty one.
func (reader *reader) list(at value, read func(value)) {
	switch {
	case at.isNull():
	case at.node.Kind == yaml.MappingNode && len(at.node.Content) == 0:
		reader.warn(at, "must be a list, not a map")
	case at.node.Kind != yaml.SequenceNode:
		reader.wrong(at, "must be a list, not %s", at.found())
	default:
		for index, item := range at.node.Content {
			item := value{follow(item), fmt.Sprintf("%s[%d]", at.path, index)}
			if reader.isTooMuch(item) {
				return
			}
			read(item)
		}
	}
}

// text reads a text; what is written without quotes is one, too, and nothing is an empty
// one, as yaml.v2 and so the job-executor-service have it.
func (reader *reader) text(at value) string {
	if at.node.Kind != yaml.ScalarNode {
		reader.wrong(at, "must be text, not %s", at.found())
		return ""
	}
	if at.isNull() {
		return ""
	}
	return at.node.Value
}

// oneOf reads one of several texts; an empty one is always allowed.
func (reader *reader) oneOf(at value, allowed ...string) string {
	text := reader.text(at)
	if text != "" && !slices.Contains(allowed, text) {
		reader.wrong(at, "%q must be one of %s%s", cut(text), strings.Join(allowed, ", "), didYouMean(text, allowed))
	}
	return text
}

func didYouMean(given string, known []string) string {
	if text := suggestion(given, known); strings.Contains(text, "did you mean") {
		return text
	}
	return ""
}

// texts reads a list of texts.
func (reader *reader) texts(at value) (list []string) {
	reader.list(at, func(item value) { list = append(list, reader.text(item)) })
	return list
}

// words reads a list of texts, or one text, which is one word.
func (reader *reader) words(at value) []string {
	if !at.isPlain() {
		return reader.texts(at)
	}
	if strings.Contains(at.node.Value, " ") {
		reader.warn(at, "is one word, blanks and all; write a list for several: [%s]", strings.Join(strings.Fields(at.node.Value), ", "))
	}
	return []string{at.node.Value}
}

func (reader *reader) boolean(at value) *bool {
	var truth bool
	switch {
	case at.isNull():
		return nil
	case at.node.Kind != yaml.ScalarNode || at.node.Decode(&truth) != nil:
		reader.wrong(at, "must be true or false, not %s", at.found())
		return nil
	}
	return &truth
}

// integer reads a whole number within limits.
func (reader *reader) integer(at value, least, most int64) *int64 {
	var number float64
	switch {
	case at.isNull():
		return nil
	case !at.isPlain() || at.node.ShortTag() == "!!str" || at.node.Decode(&number) != nil || number != math.Trunc(number):
		reader.wrong(at, "must be a whole number, not %s", at.found())
		return nil
	case number < float64(least) || number > float64(most):
		reader.wrong(at, "must be from %d to %d, not %s", least, most, cut(at.node.Value))
		return nil
	}
	return new(int64(number))
}

// cut is the beginning of a text, for a message.
func cut(text string) string {
	const longest = 80
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
