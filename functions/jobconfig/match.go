package jobconfig

import (
	"fmt"
	"strings"
)

// Envelope is an event as JSONPaths see it: an object with the members id, type, source, time, specversion,
// shkeptncontext, gitcommitid and data. Numbers are json.Number, with all digits.
type Envelope map[string]any

// MatchedAction is a matching action with its index in the file.
type MatchedAction struct {
	Action
	Index int
}

// Match returns the actions that match an event in the order of the file.
func (c *Config) Match(envelope Envelope) []MatchedAction {
	var matched []MatchedAction
	known := map[string]selection{} // the results of JSONPaths
	for index, action := range c.Actions {
		for _, event := range action.Events {
			if event.matches(envelope, known) {
				matched = append(matched, MatchedAction{Action: action, Index: index})
				break
			}
		}
	}
	return matched
}

// maxSelectors bounds the listed selectors.
const maxSelectors = 20

// Selectors describes the events of all actions, for the case that none matched.
func (c *Config) Selectors() string {
	var selectors []string
	for _, action := range c.Actions {
		for _, event := range action.Events {
			selector := fmt.Sprintf("%q is for %s", action.Name, event.Name)
			if event.JSONPath.Property != "" {
				selector += fmt.Sprintf(" where %s is %q", event.JSONPath.Property, event.JSONPath.Match)
			}
			selectors = append(selectors, selector)
		}
	}
	switch {
	case len(selectors) == 0:
		return "none names an event"
	case len(selectors) > maxSelectors:
		selectors = append(selectors[:maxSelectors], fmt.Sprintf("and %d more", len(selectors)-maxSelectors))
	}
	return strings.Join(selectors, "; ")
}

// selection is the result of a JSONPath.
type selection struct {
	value any
	err   error
}

func (e *Event) matches(envelope Envelope, known map[string]selection) bool {
	eventType, _ := envelope["type"].(string)
	if e.pattern == nil || !e.pattern.MatchString(eventType) {
		return false
	}
	if e.JSONPath.Property == "" {
		return true
	}
	found, isKnown := known[e.JSONPath.Property]
	if !isKnown {
		found.value, found.err = lookup(e.JSONPath.Property, envelope)
		known[e.JSONPath.Property] = found
	}
	if found.err != nil {
		return false
	}
	switch found.value.(type) {
	case map[string]any, []any, nil:
		return false
	default:
		return renderText(found.value) == e.JSONPath.Match
	}
}

// maxValueBytes bounds a value as JSON. Linux accepts no variable over 128 KiB. As YAML, a value needs a
// kilobyte of memory per number.
func maxValueBytes(as string) int {
	const text, yaml = 128 << 10, 64 << 10
	if as == AsYAML {
		return yaml
	}
	return text
}

// maxSearched bounds how many bytes all JSONPaths of a file search, about a second of one CPU. A path with ..,
// * or ? searches the whole event.
const maxSearched = 16 << 20

// CheckCost returns a mistake if the JSONPaths of a file would together search too much of an event of a size
// in bytes.
func (c *Config) CheckCost(size int) error {
	searches := map[string]bool{}
	for _, action := range c.Actions {
		for _, event := range action.Events {
			searches[event.JSONPath.Property] = searchesAll(event.JSONPath.Property)
		}
		for _, task := range action.Tasks {
			for _, env := range task.Env {
				if env.ValueFrom == ValueFromEvent {
					// Each variable is rendered separately.
					searches[env.Value+" "+task.Name+" "+env.Name] = searchesAll(env.Value)
				}
			}
		}
	}
	count := 0
	for _, isSearch := range searches {
		if isSearch {
			count++
		}
	}
	if count*size > maxSearched {
		return fmt.Errorf("%s has %d JSONPaths with .., * or ?, too many for an event of %d bytes; write the full path of each value, such as $.data.service", Path, count, size)
	}
	return nil
}

// EventValue renders the value of a variable from an event: scalars as in JSON, objects and lists as JSON, or
// as YAML if the variable says so. It returns an error if the expression finds nothing.
func (e *Env) EventValue(envelope Envelope) (string, error) {
	value, err := lookup(e.Value, envelope)
	if err != nil {
		return "", fmt.Errorf("could not add env with name %s, value %s of the event: %w", e.Name, e.Value, err)
	}
	// The length as JSON is checked before a larger form is rendered.
	if most := maxValueBytes(e.As); len(renderJSON(value)) > most {
		return "", fmt.Errorf("could not add env with name %s, value %s of the event: it has more than %d bytes; select a smaller part of the event", e.Name, e.Value, most)
	}
	switch e.As {
	case AsYAML:
		content, err := renderYAML(value)
		if err != nil {
			return "", fmt.Errorf("could not add env with name %s as YAML: %w", e.Name, err)
		}
		return content, nil
	case AsJSON:
		return renderJSON(value), nil
	default:
		return renderText(value), nil
	}
}
