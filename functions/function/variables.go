package function

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caarlos0/env/v11"
)

// SecretsDirectory is the variable with the directory of secret variables. Each is a file of its name, as
// Kubernetes mounts a Secret, so that secrets are not in the environment and can be rotated.
const SecretsDirectory = "SECRETS_DIRECTORY"

// maxSecretBytes bounds a secret variable.
const maxSecretBytes = 1 << 20

// ReadVariables returns the variables of an environment in the form of os.Environ, and those of its
// SecretsDirectory, if it exists.
func ReadVariables(environment []string) (map[string]string, error) {
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
			continue // removed just now, or Kubernetes' own directory
		}
		if err == nil && about.Size() > maxSecretBytes {
			err = fmt.Errorf("more than %d bytes", maxSecretBytes)
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
