//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The demo on the cluster shows a user's own job/config.yaml, with a Secret and an account that it creates.
func TestDemoShowsAnOwnProject(t *testing.T) {
	installed := connect(t)
	afterTest(t, func(ctx context.Context) error {
		return installed.Run(ctx, "kubectl delete --ignore-not-found --namespace job-executor-jobs secret/demo-word serviceaccount/demo-reader")
	})
	directory := t.TempDir()
	config := filepath.Join(directory, "config.yaml")
	must(t, os.WriteFile(config, []byte(`apiVersion: v2
actions:
  - name: Own
    event: test.triggered
    image: busybox
    serviceAccount: demo-reader
    files: [own]
    env: [{name: demo-word, valueFrom: secret}]
    cmd: [sh, -c, 'cat /keptn/own/hello.txt; echo "$WORD" | wc -c']
`), 0o600))
	must(t, os.MkdirAll(filepath.Join(directory, "files", "own"), 0o755))
	must(t, os.WriteFile(filepath.Join(directory, "files", "own", "hello.txt"), []byte("a file of mine\n"), 0o600))
	for range 2 { // the objects exist the second time
		command := exec.CommandContext(t.Context(), "go", "run", "./test/demo/cluster", "--config", config, "--files", filepath.Join(directory, "files"),
			"--secret", "demo-word=WORD=secret-of-the-demo", "--service-account", "demo-reader")
		command.Dir = repository
		content, err := command.CombinedOutput()
		output := string(content)
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		contains(t, output, "job/config.yaml:", "The sequence", "succeeded/pass", "a file of mine\n", "\n    19\n", "The trace")
		if strings.Contains(output, "secret-of-the-demo") {
			t.Errorf("the demo tells the Secret:\n%s", output)
		}
	}
}
