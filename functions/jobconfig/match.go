package jobconfig

import (
	"fmt"
	"strings"

	"github.com/job-executor/job-executor/functions/jobconfig/expression"
)

// Envelope is an event as JSONPath expressions see it: the object with the
// members id, type, source, time, specversion, shkeptncontext, gitcommitid and
// data, decoded from JSON with its numbers as they are written (json.Number).
type Envelope map[string]any

// MatchedAction is an action that an event selected, with its place in the file.
type MatchedAction struct {
	Action
	Index int
}

// Match returns the actions that run for an event, in the order of the file.
func (c *Config) Match(envelope Envelope) []MatchedAction {
	var matched []MatchedAction
	known := map[string]looked{} // what each JSONPath selects
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

// maxSelectors bounds how many selectors are told.
const maxSelectors = 20

// Selectors says which events each action is for, for whom no action matched.
func (c *Config) Selectors() string {
	var told []string
	for _, action := range c.Actions {
		for _, event := range action.Events {
			selector := fmt.Sprintf("%q is for %s", action.Name, event.Name)
			if event.JSONPath.Property != "" {
				selector += fmt.Sprintf(" where %s is %q", event.JSONPath.Property, event.JSONPath.Match)
			}
			told = append(told, selector)
		}
	}
	switch {
	case len(told) == 0:
		return "none names an event"
	case len(told) > maxSelectors:
		told = append(told[:maxSelectors], fmt.Sprintf("and %d more", len(told)-maxSelectors))
	}
	return strings.Join(told, "; ")
}

// looked is what a JSONPath selects.
type looked struct {
	value any
	err   error
}

func (e *Event) matches(envelope Envelope, known map[string]looked) bool {
	eventType, _ := envelope["type"].(string)
	if e.pattern == nil || !e.pattern.MatchString(eventType) {
		return false
	}
	if e.JSONPath.Property == "" {
		return true
	}
	found, isKnown := known[e.JSONPath.Property]
	if !isKnown {
		found.value, found.err = expression.Lookup(e.JSONPath.Property, envelope)
		known[e.JSONPath.Property] = found
	}
	if found.err != nil {
		return false
	}
	switch found.value.(type) {
	case map[string]any, []any, nil:
		return false
	default:
		return expression.Text(found.value) == e.JSONPath.Match
	}
}

// maxValueBytes bounds a value as JSON. Linux takes no variable of more than 128 KiB. As YAML a value
// takes a kilobyte of memory for each number.
func maxValueBytes(as string) int {
	const text, yaml = 128 << 10, 64 << 10
	if as == AsYAML {
		return yaml
	}
	return text
}

// maxSearched bounds how much of an event all JSONPaths of a file search: a path with .., * or ?
// searches all of it. About a second of one CPU.
const maxSearched = 16 << 20

// CheckCost returns a mistake if the JSONPaths of a file together would search too much of an event
// of a size in bytes.
func (c *Config) CheckCost(size int) error {
	searches := map[string]bool{}
	for _, action := range c.Actions {
		for _, event := range action.Events {
			searches[event.JSONPath.Property] = expression.Searches(event.JSONPath.Property)
		}
		for _, task := range action.Tasks {
			for _, env := range task.Env {
				if env.ValueFrom == ValueFromEvent {
					// Each is rendered on its own.
					searches[env.Value+" "+task.Name+" "+env.Name] = expression.Searches(env.Value)
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
		return fmt.Errorf("%s has %d JSONPaths with .., * or ?, too many for an event of %d bytes; name the place of each value, such as $.data.service", Path, count, size)
	}
	return nil
}

// EventValue renders the value that a variable takes from an event: scalars as
// they are written in JSON, objects and lists as JSON, or as YAML where the
// variable says so. An expression that finds nothing is an error.
func (e *Env) EventValue(envelope Envelope) (string, error) {
	value, err := expression.Lookup(e.Value, envelope)
	if err != nil {
		return "", fmt.Errorf("could not add env with name %s, value %s of the event: %w", e.Name, e.Value, err)
	}
	// The length as JSON is known before anything larger is made of it.
	if most := maxValueBytes(e.As); len(expression.JSON(value)) > most {
		return "", fmt.Errorf("could not add env with name %s, value %s of the event: it has more than %d bytes; take less of the event", e.Name, e.Value, most)
	}
	switch e.As {
	case AsYAML:
		content, err := expression.YAML(value)
		if err != nil {
			return "", fmt.Errorf("could not add env with name %s as YAML: %w", e.Name, err)
		}
		return content, nil
	case AsJSON:
		return expression.JSON(value), nil
	default:
		return expression.Text(value), nil
	}
}
