package expression

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// YAML is a value as YAML.
func YAML(value any) (string, error) {
	content, err := yaml.Marshal(withNumbers(value))
	return string(content), err
}

// withNumbers is a value whose numbers become those of YAML as they stand in the event.
func withNumbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: value.String()}
	case map[string]any:
		made := make(map[string]any, len(value))
		for name, member := range value {
			made[name] = withNumbers(member)
		}
		return made
	case []any:
		made := make([]any, len(value))
		for index, item := range value {
			made[index] = withNumbers(item)
		}
		return made
	default:
		return value
	}
}

// Text is a value as text: one that is text as it is, anything else as JSON.
func Text(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return JSON(value)
}

// JSON is a value as JSON, without escapes for HTML.
func JSON(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		// The value was decoded from JSON, so this can't happen; the Go form
		// still tells a person more than nothing.
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
