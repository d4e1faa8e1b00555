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
func (config *Config) Match(envelope Envelope) []MatchedAction {
	var matched []MatchedAction
	for index, action := range config.Actions {
		for _, event := range action.Events {
			if event.matches(envelope) {
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
func (config *Config) Selectors() string {
	var told []string
	for _, action := range config.Actions {
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

func (event *Event) matches(envelope Envelope) bool {
	eventType, _ := envelope["type"].(string)
	if event.pattern == nil || !event.pattern.MatchString(eventType) {
		return false
	}
	if event.JSONPath.Property == "" {
		return true
	}
	value, err := expression.Lookup(event.JSONPath.Property, envelope)
	if err != nil {
		return false
	}
	switch value.(type) {
	case map[string]any, []any, nil:
		return false
	default:
		return expression.Text(value) == event.JSONPath.Match
	}
}

// EventValue renders the value that a variable takes from an event: scalars as
// they are written in JSON, objects and lists as JSON, or as YAML where the
// variable says so. An expression that finds nothing is an error.
func (env *Env) EventValue(envelope Envelope) (string, error) {
	value, err := expression.Lookup(env.Value, envelope)
	if err != nil {
		return "", fmt.Errorf("could not add env with name %s, value %s of the event: %w", env.Name, env.Value, err)
	}
	switch env.As {
	case AsYAML:
		content, err := expression.YAML(value)
		if err != nil {
			return "", fmt.Errorf("could not add env with name %s as YAML: %w", env.Name, err)
		}
		return content, nil
	case AsJSON:
		return expression.JSON(value), nil
	default:
		return expression.Text(value), nil
	}
}
