package jobconfig

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// The reference in README.md is generated from the parser's table. With -update, the test writes it.
func TestReferenceIsThatOfTheTable(t *testing.T) {
	const begin, end = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("README.md lacks the marks around the reference")
	}
	want := keysAsTables(t)
	if *update {
		if err := os.WriteFile("README.md", []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		got = want
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("run go test ./functions/jobconfig -run Reference -update (-want +got):\n%s", difference)
	}
}

// keysAsTables returns a table of keys for each object of the file.
func keysAsTables(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	section := func(title string, keys []string, properties schema) {
		fmt.Fprintf(&text, "\n### %s\n\n| key | meaning | default | example |\n|---|---|---|---|\n", title)
		for _, key := range keys {
			writeRows(t, &text, key, properties[key].(schema))
		}
	}
	order := func(properties schema) []string { return slices.Sorted(maps.Keys(properties)) }
	section("The file", []string{"apiVersion", "actions"}, propertiesOf(fileFields()))
	section("actions[]", namesOf(longFields()), propertiesOf(longFields()))
	events := event().schema()["properties"].(schema)
	section("actions[].events[]", order(events), events)
	section("actions[].tasks[]", namesOf(taskFields()), propertiesOf(taskFields()))
	variables := env().schema()["properties"].(schema)
	section("actions[].tasks[].env[]", order(variables), variables)
	return text.String()
}

// writeRows writes a key, and the keys of the map or of the list of maps that is its value.
func writeRows(t *testing.T, text *strings.Builder, name string, of schema) {
	t.Helper()
	about, _ := of["description"].(string)
	about, isExtension := strings.CutSuffix(about, " (Extension.)")
	label := "`" + name + "`"
	if isExtension {
		label = "**" + label + "**"
	}
	initial := ""
	if value, ok := of["default"]; ok {
		initial = flow(t, value)
	}
	instance := ""
	if values, ok := of["examples"].([]any); ok {
		instance = flow(t, values[0])
	}
	fmt.Fprintf(text, "| %s | %s | %s | %s |\n", label, about, initial, instance)
	if name == "tolerations" || name == "affinity" {
		return // Kubernetes documents them
	}
	for _, part := range []struct {
		suffix string
		schema schema
	}{{".", of}, {"[].", items(of)}} {
		nested, _ := part.schema["properties"].(schema)
		for _, key := range slices.Sorted(maps.Keys(nested)) {
			if property, ok := nested[key].(schema); ok {
				writeRows(t, text, name+part.suffix+key, property)
			}
		}
	}
}

func items(of schema) schema {
	each, _ := of["items"].(schema)
	return each
}

// flow writes a value as YAML in one line.
func flow(t *testing.T, value any) string {
	t.Helper()
	var node yaml.Node
	if err := node.Encode(value); err != nil {
		t.Fatal(err)
	}
	node.Style = yaml.FlowStyle
	content, err := yaml.Marshal(&node)
	if err != nil {
		t.Fatal(err)
	}
	return "`" + strings.TrimSpace(string(content)) + "`"
}

// An example in the reference, and in an editor, must be valid.
func TestExamplesOfTaskKeysAreValid(t *testing.T) {
	for _, field := range taskFields() {
		examples, ok := field.schema()["examples"].([]any)
		if !ok {
			continue
		}
		t.Run(field.name, func(t *testing.T) {
			written := map[string]any{"image": "i", field.name: examples[0]}
			content, err := yaml.Marshal(map[string]any{"apiVersion": APIVersion, "actions": []any{map[string]any{"name": "a", "tasks": []any{written}}}})
			if err != nil {
				t.Fatal(err)
			}
			if config := Parse(content); len(config.All()) > 0 || len(config.Warnings) > 0 {
				t.Errorf("%s: %v %v", content, config.All(), config.Warnings)
			}
		})
	}
}
