package function

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Secrets are files, as Kubernetes mounts them, and not in the environment.
func TestSecretsAreReadFromFiles(t *testing.T) {
	directory := t.TempDir()
	mounted := filepath.Join(directory, "..2026")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mounted, "TOKEN"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := filepath.Join(directory, "..data")
	for name, target := range map[string]string{"..data": mounted, "TOKEN": filepath.Join(shown, "TOKEN"), "GONE": filepath.Join(shown, "GONE")} {
		if err := os.Symlink(target, filepath.Join(directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		environment []string
		want        map[string]string
	}{
		"none":                   {[]string{"A=b"}, map[string]string{"A": "b"}},
		"some":                   {[]string{"A=b", "SECRETS_DIRECTORY=" + directory}, map[string]string{"A": "b", "TOKEN": "secret", "SECRETS_DIRECTORY": directory}},
		"a Secret that is not":   {[]string{"SECRETS_DIRECTORY=" + directory + "/none"}, map[string]string{"SECRETS_DIRECTORY": directory + "/none"}},
		"a file counts for more": {[]string{"TOKEN=x", "SECRETS_DIRECTORY=" + directory}, map[string]string{"TOKEN": "secret", "SECRETS_DIRECTORY": directory}},
	} {
		got, err := ReadVariables(test.environment)
		if difference := cmp.Diff(test.want, got); difference != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, difference)
		}
	}
	if err := os.WriteFile(filepath.Join(directory, "LARGE"), make([]byte, maxSecretBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadVariables([]string{"SECRETS_DIRECTORY=" + directory}); err == nil || !strings.Contains(err.Error(), "variable LARGE in ") {
		t.Errorf("got %v", err)
	}
}
