package jobconfig

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// reservedPrefix is the prefix of Job Executor's own annotations.
const reservedPrefix = "job-executor.github.io/"

const (
	// maxTasks bounds the tasks of a file.
	maxTasks = 1000
	// maxPatternsSize bounds the sizes of all regular expressions of a file.
	maxPatternsSize = 50000
)

func (c *Config) read(root *yaml.Node) {
	d := &decoder{}
	top := yamlValue{node: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	if root != nil {
		top.node = root
	}
	if d.isVersion(top) {
		d.object(top, readersOf(d, fileFields(), members{}, c))
	}
	c.Mistakes = d.mistakes.sorted()
	c.Warnings = d.warnings.sorted()
}

func fileFields() []property[Config] {
	version := kind[string]{func() schema { return schema{"const": APIVersion} }, func(*decoder, yamlValue, *string) {}}
	return []property[Config]{
		key("apiVersion", "The version of the format.", version, func(*Config) *string { return nil }, example(APIVersion)),
		key("actions", "The actions.", list(defined("action", action())), func(c *Config) *[]Action { return &c.Actions }),
	}
}

// isVersion reports whether the file has the right version. Otherwise nothing else is checked.
func (d *decoder) isVersion(top yamlValue) bool {
	if top.node.Kind != yaml.MappingNode && !top.isNull() {
		d.wrong(top, "it must be a map that begins with apiVersion: %s, not %s", APIVersion, top.found())
		return false
	}
	version := yamlValue{}
	for index := 0; index+1 < len(top.node.Content); index += 2 {
		if key := top.node.Content[index]; key.Value == "apiVersion" {
			version = top.member(key.Value, top.node.Content[index+1])
		}
	}
	switch {
	case version.node == nil || version.isNull():
		d.wrong(top, "apiVersion must be specified: begin the file with apiVersion: %s", APIVersion)
	case version.node.Value == "v1":
		d.wrong(version, "v1 is not supported, use %s; in %s, cmd is a list of the program and its arguments, such as [jmeter, -n], or args has the arguments", APIVersion, APIVersion)
	case version.node.Value != APIVersion:
		d.wrong(version, "%s is not supported, use %s", cut(version.node.Value), APIVersion)
	default:
		return true
	}
	return false
}

func (d *decoder) hasMistake(path string) bool {
	return slices.ContainsFunc(d.mistakes, func(mistake Mistake) bool { return mistake.Path == path })
}
