package jobconfig

import (
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

// reservedPrefix is the prefix of Job Executor's own annotations.
const reservedPrefix = "job-executor.github.io/"

const (
	// maxTasks bounds the tasks of a file.
	maxTasks = 1000
	// maxPatternsSize bounds the sizes of all regular expressions of a file.
	maxPatternsSize = 50000
)

// decoder parses a file into a Config.
type decoder struct {
	reader.Reader
	// tasks and patternsSize are totals of the file.
	tasks, patternsSize int
}

func (c *Config) read(root *yaml.Node) {
	d := &decoder{}
	top := reader.Value{Node: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	if root != nil {
		top.Node = root
	}
	if d.isVersion(top) {
		d.Object(top, readersOf(d, fileFields(), members{}, c))
	}
	c.Mistakes = Mistakes(d.Mistakes).sorted()
	c.Warnings = Mistakes(d.Warnings).sorted()
}

func fileFields() []property[Config] {
	version := kind[string]{func() schema { return schema{"const": APIVersion} }, func(*decoder, reader.Value, *string) {}}
	return []property[Config]{
		key("apiVersion", "The version of the format.", version, func(*Config) *string { return nil }),
		key("actions", "The actions.", list(defined("action", action())), func(c *Config) *[]Action { return &c.Actions }),
	}
}

// isVersion reports whether the file has the right version. Otherwise nothing else is checked.
func (d *decoder) isVersion(top reader.Value) bool {
	if top.Node.Kind != yaml.MappingNode && !top.IsNull() {
		d.Wrong(top, "it must be a map that begins with apiVersion: %s, not %s", APIVersion, top.Found())
		return false
	}
	version := reader.Value{}
	for index := 0; index+1 < len(top.Node.Content); index += 2 {
		if key := top.Node.Content[index]; key.Value == "apiVersion" {
			version = top.Member(key.Value, top.Node.Content[index+1])
		}
	}
	switch {
	case version.Node == nil || version.IsNull():
		d.Wrong(top, "apiVersion must be specified: begin the file with apiVersion: %s", APIVersion)
	case version.Node.Value == "v1":
		d.Wrong(version, "v1 is not supported, use %s; in %s, cmd is a list of the program and its arguments, such as [jmeter, -n], or cmd is the program and args the list", APIVersion, APIVersion)
	case version.Node.Value != APIVersion:
		d.Wrong(version, "%s is not supported, use %s", reader.Cut(version.Node.Value), APIVersion)
	default:
		return true
	}
	return false
}

func (d *decoder) hasMistake(path string) bool {
	return slices.ContainsFunc(d.Mistakes, func(mistake Mistake) bool { return mistake.Path == path })
}
