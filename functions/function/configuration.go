package function

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// SecretsDirectory is the variable that names a directory with variables that are secret: each is
// a file of its name, as Kubernetes mounts the keys of a Secret. They stand in no environment, and
// what changes there is seen when they are read again.
const SecretsDirectory = "SECRETS_DIRECTORY"

// maxSecretBytes bounds one of them.
const maxSecretBytes = 1 << 20

// Variables returns the variables of an environment, as os.Environ has it, and those of its
// SecretsDirectory, which may not be there.
func Variables(environment []string) (map[string]string, error) {
	variables := env.ToMap(environment)
	directory := variables[SecretsDirectory]
	if directory == "" {
		return variables, nil
	}
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("environment variable %s: %w", SecretsDirectory, err)
	}
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		about, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !about.Mode().IsRegular() {
			continue // it was taken away just now, or is where Kubernetes keeps the files
		}
		if err == nil && about.Size() > maxSecretBytes {
			err = fmt.Errorf("it has more than %d bytes", maxSecretBytes)
		}
		var content []byte
		if err == nil {
			content, err = os.ReadFile(path) //nolint:gosec // the operator's
		}
		if err != nil {
			return nil, fmt.Errorf("variable %s in %s: %w", entry.Name(), directory, err)
		}
		variables[entry.Name()] = string(content)
	}
	return variables, nil
}

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
