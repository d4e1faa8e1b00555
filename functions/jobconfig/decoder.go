package jobconfig

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

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
	d.mistakes = append(d.mistakes, mistakeAt(at, fmt.Sprintf(format, arguments...)))
}

// warn adds a warning in the same form.
func (d *decoder) warn(at yamlValue, format string, arguments ...any) {
	d.warnings = append(d.warnings, mistakeAt(at, fmt.Sprintf(format, arguments...)))
}

func mistakeAt(at yamlValue, text string) Mistake {
	if at.path != "" {
		text = at.path + " " + text
	}
	return Mistake{Line: at.node.Line, Column: at.node.Column, Path: at.path, Text: visible(text)}
}

// visible escapes characters that are not shown, such as line feeds in a key: they could add lines to a log, or control a terminal.
func visible(text string) string {
	var escaped strings.Builder
	for _, char := range text {
		if unicode.IsGraphic(char) {
			escaped.WriteRune(char)
		} else {
			escaped.WriteString(strings.Trim(strconv.QuoteRune(char), "'"))
		}
	}
	return escaped.String()
}

// isTooMuch reports whether the limit of values is reached.
func (d *decoder) isTooMuch(at yamlValue) bool {
	d.visited++
	if d.visited == maxVisited {
		d.wrong(at, "exceeds the limit: the file has more than %d values, counting each use of an alias", maxVisited)
	}
	return d.visited >= maxVisited
}
