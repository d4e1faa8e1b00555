package jobconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	kjson "sigs.k8s.io/json"
)

// keyReaders are the keys of a map with their parsers.
type keyReaders map[string]func(yamlValue)

// object parses a map; null is an empty one. Keys with the prefix x- are ignored.
func (d *decoder) object(at yamlValue, known keyReaders) {
	switch {
	case at.isNull():
	case at.node.Kind != yaml.MappingNode:
		d.wrong(at, "must be a map, not %s", at.found())
	default:
		d.members(at, at.node, known, map[string]int{})
	}
}

// members returns the members of a map, then merged ones (<<) that it does not have.
func (d *decoder) members(at yamlValue, node *yaml.Node, known keyReaders, seen map[string]int) {
	merged := []*yaml.Node{}
	own := map[string]bool{}
	for index := 0; index+1 < len(node.Content); index += 2 {
		key := follow(node.Content[index])
		member := at.member(key.Value, node.Content[index+1])
		if d.isTooMuch(member) {
			return
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, d.merged(member)...)
			continue
		}
		if line := seen[key.Value]; line != 0 {
			if own[key.Value] {
				d.wrong(yamlValue{key, member.path}, "is a duplicate of line %d", line)
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
				instead = "; valid keys are " + strings.Join(names, ", ")
			}
			d.wrong(yamlValue{key, member.path}, "is not a known key%s", instead)
		}
	}
	for _, other := range merged {
		d.members(at, other, known, seen)
	}
}

// merged returns the maps that a merge key refers to.
func (d *decoder) merged(at yamlValue) []*yaml.Node {
	found := mergedBy(at.node)
	if at.node.Kind != yaml.MappingNode && (at.node.Kind != yaml.SequenceNode || len(found) < len(at.node.Content)) {
		d.wrong(at, "must be a map or a list of maps to merge, not %s", at.found())
	}
	return found
}

// mergedBy returns the maps of a merge key: one, or a list.
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

// list parses each item of a list; null is an empty one.
func (d *decoder) list(at yamlValue, read func(yamlValue)) {
	switch {
	case at.isNull():
	case at.node.Kind == yaml.MappingNode && len(at.node.Content) == 0:
		d.warn(at, "must be a list, not a map")
	case at.node.Kind != yaml.SequenceNode:
		d.wrong(at, "must be a list, not %s", at.found())
	default:
		for index := range at.node.Content {
			item := at.item(index)
			if d.isTooMuch(item) {
				return
			}
			read(item)
		}
	}
}

// text parses a text. Unquoted scalars are texts, too, and null is an empty text, as in yaml.v2 and so in the
// job-executor-service.
func (d *decoder) text(at yamlValue) string {
	if at.node.Kind != yaml.ScalarNode {
		d.wrong(at, "must be text, not %s%s", at.found(), template(at.node))
		return ""
	}
	if at.isNull() {
		return ""
	}
	return at.node.Value
}

// template returns the end of a sentence about a map that is {{ … }} of a template, which YAML parses as a map in a map;
// empty for other values.
func template(node *yaml.Node) string {
	if node.Kind == yaml.MappingNode && len(node.Content) > 0 && follow(node.Content[0]).Kind == yaml.MappingNode {
		return "; this looks like a template that was not filled in"
	}
	return ""
}

// oneOf parses one of several texts. An empty text is always allowed.
func (d *decoder) oneOf(at yamlValue, allowed ...string) string {
	text := d.text(at)
	if text != "" && !slices.Contains(allowed, text) {
		d.wrong(at, "%q must be one of %s%s", cut(text), strings.Join(allowed, ", "), didYouMean(text, allowed))
	}
	return text
}

// texts parses a list of texts.
func (d *decoder) texts(at yamlValue) (list []string) {
	d.list(at, func(item yamlValue) { list = append(list, d.text(item)) })
	return list
}

// words parses a list of texts, or one text, which is a single word.
func (d *decoder) words(at yamlValue) []string {
	if !at.isPlain() {
		return d.texts(at)
	}
	switch {
	case strings.ContainsAny(at.node.Value, "&|;<>$`"):
		d.warn(at, "is one word and does not run in a shell; write [sh, -c, %q]", at.node.Value)
	case strings.Contains(at.node.Value, " "):
		d.warn(at, "is one word, including the spaces; write a list for several words: [%s]", strings.Join(strings.Fields(at.node.Value), ", "))
	}
	return []string{at.node.Value}
}

// boolean parses true or false; null is nil.
func (d *decoder) boolean(at yamlValue) *bool {
	var truth bool
	switch {
	case at.isNull():
		return nil
	case at.node.Kind != yaml.ScalarNode || at.node.Decode(&truth) != nil:
		d.wrong(at, "must be true or false, not %s", at.found())
		return nil
	}
	return &truth
}

// integer parses a whole number within limits; null is nil.
func (d *decoder) integer(at yamlValue, least, most int64) *int64 {
	var number float64
	switch {
	case at.isNull():
		return nil
	case !at.isPlain() || at.node.ShortTag() == "!!str" || at.node.Decode(&number) != nil || number != math.Trunc(number):
		advice := ""
		if at.isPlain() && at.node.ShortTag() == "!!str" {
			advice = "; write it without quotes and unit, for example 300"
		}
		d.wrong(at, "must be a whole number, not %s%s", at.found(), advice)
		return nil
	case number < float64(least) || number > float64(most):
		d.wrong(at, "must be from %d to %d, not %s", least, most, cut(at.node.Value))
		return nil
	}
	return new(int64(number))
}

// pairs parses a map of texts, or a list of such maps. Check returns the end of a sentence about an invalid
// name; empty if it is valid.
func (d *decoder) pairs(at yamlValue, check func(name string) string) map[string]string {
	pairs := map[string]string{}
	var read func(at yamlValue)
	merge := func(at yamlValue, nodes []*yaml.Node) {
		for _, node := range nodes {
			for index := 0; index+1 < len(node.Content); index += 2 {
				key := follow(node.Content[index])
				if _, own := pairs[key.Value]; own || key.ShortTag() == "!!merge" || d.isTooMuch(at) {
					continue // explicit members take precedence
				}
				read(yamlValue{&yaml.Node{Kind: yaml.MappingNode, Line: key.Line, Column: key.Column, Content: node.Content[index : index+2]}, at.path})
			}
		}
	}
	read = func(at yamlValue) {
		if at.node.Kind != yaml.MappingNode {
			if !at.isNull() {
				d.wrong(at, "must be a map, not %s", at.found())
			}
			return
		}
		var merged []*yaml.Node
		defer func() { merge(at, merged) }()
		for index := 0; index+1 < len(at.node.Content); index += 2 {
			key := follow(at.node.Content[index])
			member := at.member(key.Value, at.node.Content[index+1])
			if d.isTooMuch(member) {
				return
			}
			if key.ShortTag() == "!!merge" {
				merged = append(merged, d.merged(member)...)
				continue
			}
			if _, twice := pairs[key.Value]; twice {
				d.wrong(yamlValue{key, member.path}, "is a duplicate")
			}
			if wrong := check(key.Value); wrong != "" {
				d.wrong(yamlValue{key, member.path}, "%s", wrong)
			}
			pairs[key.Value] = d.text(member)
		}
	}
	if at.node.Kind == yaml.SequenceNode {
		d.list(at, read)
	} else {
		read(at)
	}
	return pairs
}

// strict decodes a value into a pointer like JSON, by the json tags of its type. An unknown member is a
// mistake. It returns false if the value is invalid.
func (d *decoder) strict(at yamlValue, into any) bool {
	var plain any
	err := at.node.Decode(&plain)
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
	detail := ""
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		detail = strings.TrimSuffix(": "+mismatch.Field, ": ") + fmt.Sprintf(": must be %s, not %s", kindOf(mismatch.Type), mismatch.Value)
	} else if _, name, found := strings.Cut(err.Error(), "unknown field "); found {
		name, _, _ = strings.Cut(name, "\n")
		detail = ": unknown field " + name
	}
	d.wrong(at, "does not match Kubernetes' format%s", detail)
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
