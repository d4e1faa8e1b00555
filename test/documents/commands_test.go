package documents

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/job-executor/job-executor/functions/jobconfig"
)

func blocksOf(t *testing.T, language string) (found []Block) {
	t.Helper()
	for name, content := range documents(t) {
		for _, block := range BlocksOf(name, content) {
			if block.Language == language {
				found = append(found, block)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no document has a block of %s", language)
	}
	return found
}

// Commands without a mark need no cluster.
func TestCommandsRun(t *testing.T) {
	for _, block := range blocksOf(t, "sh") {
		if block.Mark != "" {
			continue
		}
		t.Run(block.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, "sh", "-e", "-c", block.Text)
			command.Dir = root
			if output, err := command.CombinedOutput(); err != nil {
				t.Errorf("%s%v\n%s", block.Text, err, output)
			}
		})
	}
}

// Other commands are run by the end-to-end test that their mark names.
func TestMarksNameTests(t *testing.T) {
	var tests []byte
	files, err := filepath.Glob(root + "/test/e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, content...)
	}
	for _, block := range blocksOf(t, "sh") {
		if block.Mark != "" && block.Mark != "cluster" && !strings.Contains(string(tests), "func "+block.Mark+"(t *testing.T)") {
			t.Errorf("%s: no end-to-end test is called %s", block, block.Mark)
		}
	}
}

func TestYAMLInDocumentsIsValid(t *testing.T) {
	for _, block := range blocksOf(t, "yaml") {
		t.Run(block.String(), func(t *testing.T) {
			var value any
			if err := yaml.Unmarshal([]byte(block.Text), &value); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(block.Text, "runs-on:") {
				checkWorkflow(t, block.Text)
			}
			if !strings.Contains(block.Text, "actions:") {
				return
			}
			if config := jobconfig.Parse([]byte(block.Text)); len(config.All()) > 0 || len(config.Warnings) > 0 {
				t.Errorf("mistakes %v, warnings %v", config.All(), config.Warnings)
			}
		})
	}
}

// checkWorkflow checks a workflow of GitHub. actionlint runs as a program, since it needs another version of the YAML library than we do.
func checkWorkflow(t *testing.T, workflow string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", "-oneline", "-")
	command.Stdin = strings.NewReader(workflow)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

func TestEventInDocumentsMatchesTheConfiguration(t *testing.T) {
	for _, block := range blocksOf(t, "json") {
		var event map[string]any
		if err := json.Unmarshal([]byte(block.Text), &event); err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		configurations := blocksOf(t, "yaml")
		first := slices.IndexFunc(configurations, func(other Block) bool { return other.Document == block.Document })
		config := jobconfig.Parse([]byte(configurations[first].Text))
		if matched := config.Match(event); len(matched) != 1 {
			t.Errorf("%s: it matches %d actions", block, len(matched))
		}
	}
}

// A target of make in any document exists.
func TestTargetsOfMakeExist(t *testing.T) {
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range documents(t) {
		for _, found := range regexp.MustCompile("`make ([a-z0-9-]+)").FindAllStringSubmatch(content, -1) {
			if !regexp.MustCompile(`(?m)^` + found[1] + `:`).Match(makefile) {
				t.Errorf("%s: there is no target %s", name, found[1])
			}
		}
	}
}

func TestBlocksOfADocument(t *testing.T) {
	const content = "# x\n```sh cluster\na\n  b\n```\n1. y\n   ```yaml\n   c: 1\n\n   ```\n"
	want := []Block{
		{Document: "d", Line: 2, Language: "sh", Mark: "cluster", Text: "a\n  b\n"},
		{Document: "d", Line: 7, Language: "yaml", Text: "c: 1\n\n"},
	}
	if difference := cmp.Diff(want, BlocksOf("d", content)); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
