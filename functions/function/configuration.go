package function

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Validator is a configuration of which not every combination of settings is right.
type Validator interface {
	// Validate returns an error that names every variable that is wrong.
	Validate() error
}

// Configure reads a configuration from the variables of an environment, as the env tags
// of its fields say, and validates it. Its error names every variable that is missing or
// wrong.
func Configure[Configuration any](environment map[string]string) (Configuration, error) {
	configuration, err := env.ParseAsWithOptions[Configuration](env.Options{Environment: environment})
	var failures []error
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		for _, failure := range all.Errors {
			failures = append(failures, named(failure, reflect.TypeFor[Configuration]()))
		}
	}
	if validator, ok := any(configuration).(Validator); ok {
		failures = append(failures, validator.Validate())
	}
	return configuration, errors.Join(failures...)
}

// named names the variable of a failure, which names only its field.
func named(failure error, structure reflect.Type) error {
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
