package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/lint"
	"github.com/job-executor/job-executor/test/fixture"
)

const (
	schemaPath = "../../kodata/job-config.schema.json"
	corpus     = "../../functions/jobconfig/testdata/corpus"
)

// beyond are invalid files of the corpus that a schema cannot reject: it evaluates no expressions, counts nothing
// over the whole file, and does not compare places.
func beyond() []string {
	return []string{
		"a-JSONPath-that-multiplies-what-it-selects", "aliases-that-multiply", "an-event-name-that-is-no-expression",
		"an-event-name-whose-repetitions-multiply", "too-many-tasks", "case-15-jsonpath-bomb", "case-20-unused-action-breaks-the-rest",
		"case-26-second-document-ignored", "syntax-a-second-document", "syntax-a-second-document-that-is-none",
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiled, err := jsonschema.NewCompiler().Compile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func read(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files are %s: %v", pattern, err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = content
	}
	return files
}

func TestExamplesHaveNoMistakes(t *testing.T) {
	compiled := schema(t)
	found := read(t, "*.yaml")
	if len(found) < 12 {
		t.Errorf("there are only %d", len(found))
	}
	for name, content := range found {
		t.Run(name, func(t *testing.T) {
			config := jobconfig.Parse(content)
			if wrong := append(config.All(), config.Warnings...); len(wrong) > 0 {
				t.Error(wrong)
			}
			if len(config.Actions) == 0 || !bytes.HasPrefix(content, []byte("# ")) {
				t.Error("it has no actions, or does not say what it is")
			}
			value, _ := fixture.Instance(content)
			if err := compiled.Validate(value); err != nil {
				t.Errorf("the schema: %v", err)
			}
		})
	}
}

// Parser, linter and schema say the same of every file.
func TestCorpus(t *testing.T) {
	compiled := schema(t)
	unseen := map[string]bool{}
	for _, name := range beyond() {
		unseen[name] = true
	}
	count := 0
	for pattern, isValid := range map[string]bool{
		"*.yaml": true, filepath.Join(corpus, "valid", "*.yaml"): true, filepath.Join(corpus, "invalid", "*.yaml"): false,
	} {
		for path, content := range read(t, pattern) {
			count++
			name := strings.TrimSuffix(filepath.Base(path), ".yaml")
			t.Run(name, func(t *testing.T) {
				if mistakes := jobconfig.Parse(content).All(); (len(mistakes) == 0) != isValid {
					t.Errorf("the parser: %v", mistakes)
				}
				command := lint.Command()
				command.SetArgs([]string{path})
				var output bytes.Buffer
				command.SetOut(&output)
				if err := command.ExecuteContext(t.Context()); errors.Is(err, lint.ErrFound) == isValid {
					t.Errorf("the linter: %v, %s", err, output.String())
				}
				value, isYAML := fixture.Instance(content)
				if !isYAML {
					return
				}
				err := compiled.Validate(value)
				if wants := isValid || unseen[name]; (err == nil) != wants {
					t.Errorf("the schema: %v", err)
				}
				delete(unseen, name)
			})
		}
	}
	if count < 100 || len(unseen) > 0 {
		t.Errorf("there are %d files, and none of %v", count, unseen)
	}
}

// keysOf returns the keys of the schema for a part of the file.
func keysOf(t *testing.T, part string) []string {
	t.Helper()
	content, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Definitions map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(parsed.Definitions[part].Properties))
}

// The schema and the parser know the same keys. The reference comes from the parser's table.
func TestEveryKeyIsKnownEverywhere(t *testing.T) {
	const unknown = "qqqqqqqqqqqq"
	for part, content := range map[string]string{
		"action": "- {qqqqqqqqqqqq: 1}", "task": "- tasks: [{image: i, qqqqqqqqqqqq: 1}]",
		"env": "- tasks: [{image: i, env: [{name: A, valueFrom: string, qqqqqqqqqqqq: 1}]}]", "event": "- events: [{qqqqqqqqqqqq: 1}]",
	} {
		keys := keysOf(t, part)
		mistakes := jobconfig.Parse([]byte("apiVersion: v2\nactions:\n" + content + "\n")).All()
		if len(mistakes) != 1 {
			t.Fatal(mistakes)
		}
		_, known, _ := strings.Cut(mistakes[0].Text, unknown+" is not a known key; valid keys are ")
		if difference := cmp.Diff(keys, strings.Split(known, ", ")); difference != "" {
			t.Errorf("keys of an %s (-schema +parser):\n%s", part, difference)
		}
	}
}
