package function

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caarlos0/env/v11"
)

// SecretsDirectory is the variable that names a directory with variables that are secret: each is
// a file of its name, as Kubernetes mounts the keys of a Secret. They stand in no environment, and
// what changes there is seen when they are read again.
const SecretsDirectory = "SECRETS_DIRECTORY"

// maxSecretBytes bounds one of them.
const maxSecretBytes = 1 << 20

// ReadVariables returns the variables of an environment, as os.Environ has it, and those of its
// SecretsDirectory, which may not be there.
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
