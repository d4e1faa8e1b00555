package jobconfig

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// yamlValue is a value in the file with its path, such as "actions[0].name".
type yamlValue struct {
	node *yaml.Node
	path string
}

// isNull reports whether the value is null, ~ or empty.
func (v yamlValue) isNull() bool {
	return v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null"
}

// isPlain reports whether the value is a scalar but not null.
func (v yamlValue) isPlain() bool { return v.node.Kind == yaml.ScalarNode && !v.isNull() }

// member is a member of a map, with its path.
func (v yamlValue) member(name string, node *yaml.Node) yamlValue {
	if v.path != "" {
		name = v.path + "." + name
	}
	return yamlValue{follow(node), name}
}

// item returns an item of a list.
func (v yamlValue) item(index int) yamlValue {
	return yamlValue{follow(v.node.Content[index]), fmt.Sprintf("%s[%d]", v.path, index)}
}

// follow resolves an alias. YAML does not allow an alias to itself.
func follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// found describes the value, for a message.
func (v yamlValue) found() string {
	switch {
	case v.node.Kind == yaml.SequenceNode:
		return "a list"
	case v.node.Kind == yaml.MappingNode:
		return "a map"
	case v.isNull():
		return "nothing"
	default:
		return fmt.Sprintf("%q", cut(v.node.Value))
	}
}

// cut returns the beginning of a text, for a message.
func cut(text string) string {
	const longest = 80
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
