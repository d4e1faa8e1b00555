package function

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Validator is a configuration that checks its settings.
type Validator interface {
	// Validate returns an error that names every invalid variable.
	Validate() error
}

// Configure parses a configuration from variables, as the env tags of its fields say, and validates it. Its
// error names every missing or invalid variable.
func Configure[Configuration any](environment map[string]string) (Configuration, error) {
	environment = maps.Clone(environment)
	trimLists(reflect.TypeFor[Configuration](), environment)
	configuration, err := env.ParseAsWithOptions[Configuration](env.Options{Environment: environment})
	var failures []error
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		for _, failure := range all.Errors {
			failures = append(failures, withVariable(failure, reflect.TypeFor[Configuration]()))
		}
	}
	if validator, ok := any(configuration).(Validator); ok {
		failures = append(failures, validator.Validate())
	}
	return configuration, errors.Join(failures...)
}

// trimLists removes blanks and empty items from lists and maps: YAML may fold a long list over several lines.
func trimLists(structure reflect.Type, environment map[string]string) {
	for index := range structure.NumField() {
		field := structure.Field(index)
		variable, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		text, given := environment[variable]
		isList := field.Type.Kind() == reflect.Slice || field.Type.Kind() == reflect.Map
		if !isList || variable == "" || !given || reflect.PointerTo(field.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			if field.Type.Kind() == reflect.Struct && variable == "" {
				trimLists(field.Type, environment)
			}
			continue
		}
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			name, value, isPair := strings.Cut(item, "=")
			if item = strings.TrimSpace(item); isPair && field.Type.Kind() == reflect.Map {
				item = strings.TrimSpace(name) + "=" + strings.TrimSpace(value)
			}
			if item != "" {
				items = append(items, item)
			}
		}
		environment[variable] = strings.Join(items, ",")
	}
}

// withVariable adds the variable to an error that only has the field.
func withVariable(failure error, structure reflect.Type) error {
	if empty, ok := errors.AsType[env.EmptyVarError](failure); ok {
		return fmt.Errorf("environment variable %s: required", empty.Key)
	}
	if wrong, ok := errors.AsType[env.ParseError](failure); ok {
		return fmt.Errorf("environment variable %s: %w", variableOf(structure, wrong.Name), wrong.Err)
	}
	return failure
}

func variableOf(structure reflect.Type, name string) string {
	for index := range structure.NumField() {
		field := structure.Field(index)
		if tag := field.Tag.Get("env"); field.Name == name && tag != "" {
			variable, _, _ := strings.Cut(tag, ",")
			return variable
		}
		if field.Type.Kind() == reflect.Struct {
			if variable := variableOf(field.Type, name); variable != "" {
				return variable
			}
		}
	}
	return ""
}
