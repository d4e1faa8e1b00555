package jobconfig

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// renderYAML renders a value as YAML.
func renderYAML(value any) (string, error) {
	content, err := yaml.Marshal(withNumbers(value))
	return string(content), err
}

// withNumbers converts numbers so that YAML keeps their digits.
func withNumbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: value.String()}
	case map[string]any:
		converted := make(map[string]any, len(value))
		for name, member := range value {
			converted[name] = withNumbers(member)
		}
		return converted
	case []any:
		converted := make([]any, len(value))
		for index, item := range value {
			converted[index] = withNumbers(item)
		}
		return converted
	default:
		return value
	}
}

// renderText renders a value as text: a text as it is, anything else as JSON.
func renderText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return renderJSON(value)
}

// renderJSON renders a value as JSON without HTML escapes.
func renderJSON(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		// The value was decoded from JSON, so this cannot happen. The Go form is still better than nothing.
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
