package jobconfig

import "fmt"

// decoder parses a file into a Config. It continues after invalid values to find all mistakes.
type decoder struct {
	mistakes, warnings Mistakes
	// visited counts values, including those that aliases repeat.
	visited int
	// tasks and patternsSize are totals of the file.
	tasks, patternsSize int
}

// maxVisited bounds the values of a file, including those that aliases repeat.
const maxVisited = 50000

// wrong adds a mistake. Its sentence begins with the value's path.
func (d *decoder) wrong(at yamlValue, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	if at.path != "" {
		text = at.path + " " + text
	}
	d.mistakes = append(d.mistakes, Mistake{Line: at.node.Line, Column: at.node.Column, Path: at.path, Text: text})
}

// warn adds a warning in the same form.
func (d *decoder) warn(at yamlValue, format string, arguments ...any) {
	d.warnings = append(d.warnings, Mistake{
		Line: at.node.Line, Column: at.node.Column, Path: at.path, Text: at.path + " " + fmt.Sprintf(format, arguments...),
	})
}

// isTooMuch reports whether the limit of values is reached.
func (d *decoder) isTooMuch(at yamlValue) bool {
	d.visited++
	if d.visited == maxVisited {
		d.wrong(at, "exceeds the limit: the file has more than %d values, counting each use of an alias", maxVisited)
	}
	return d.visited >= maxVisited
}
