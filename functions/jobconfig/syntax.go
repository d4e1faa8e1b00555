package jobconfig

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// parseTree returns the root of a file, nil if the file is empty, or its syntax error.
func parseTree(content []byte) (*yaml.Node, *Mistake) {
	if wrong := unprintable(content); wrong != nil {
		return nil, wrong
	}
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	if err != nil {
		return nil, syntaxMistake(err)
	}
	var document, next yaml.Node
	if err := loader.Load(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, tabOr(content, syntaxMistake(err))
	}
	if err := loader.Load(&next); err == nil && !isEmpty(&next) {
		return nil, &Mistake{Line: next.Line, Column: next.Column, Text: "a second document (---) is ignored; move its actions into the first"}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, syntaxMistake(err)
	}
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		return follow(document.Content[0]), nil
	}
	return &document, nil
}

// isEmpty reports whether a document is empty, as after a last ---.
func isEmpty(document *yaml.Node) bool {
	return document.Kind == yaml.DocumentNode && len(document.Content) == 1 && yamlValue{node: document.Content[0]}.isNull()
}

// unprintable returns the first character that YAML does not allow.
func unprintable(content []byte) *Mistake {
	line, column := 1, 1
	for index := 0; index < len(content); {
		char, size := utf8.DecodeRune(content[index:])
		switch {
		case char == utf8.RuneError && size <= 1:
			return &Mistake{Line: line, Column: column, Text: "invalid UTF-8"}
		case char < ' ' && char != '\n' && char != '\r' && char != '\t' || char == '\x7f':
			return &Mistake{Line: line, Column: column, Text: "control characters are not allowed"}
		case char == '\n':
			line, column = line+1, 0
		}
		index, column = index+size, column+1
	}
	return nil
}

// syntaxWords are plain words for the parser's messages.
var syntaxWords = []struct {
	part    string
	isBegin bool
	text    string
}{
	{"',' or ']'", true, "a closing ] or a comma is missing in this list"},
	{"',' or '}'", true, "a closing } or a comma is missing in this map"},
	{"end of stream", true, "the closing quote is missing"},
	{"document indicator", true, "the closing quote is missing"},
	{"expected ':'", true, "a colon and a space are missing after this key"},
	{"expected key", false, "this does not match the lines above; check the indentation"},
	{"expected '-'", false, "this does not match the lines above; check the indentation"},
	{"block sequence entries", false, "a list item is not allowed here; check the indentation"},
	{"mapping values", false, "a key is not allowed here; check the indentation, and quote text that contains a colon"},
	{"tab", false, "tab character; indent with spaces"},
	{"cannot start any token", false, "a value cannot begin with this character; quote the text"},
	{"escape", false, "unknown escape in double quotes"},
	{"unknown anchor", false, "unknown anchor (&); quote text that begins with *"},
	{"alias or anchor", false, "the name of an anchor (&) or alias (*) is missing; quote the text"},
	{"node content", false, "the value is missing; quote text that begins with a special character"},
	{"contains itself", false, "this anchor contains itself"},
}

// tabOr returns a mistake about a tab in the indentation, if the line has one. The parser has many messages for
// it.
func tabOr(content []byte, wrong *Mistake) *Mistake {
	lines := bytes.Split(content, []byte("\n"))
	for _, number := range []int{wrong.Line, wrong.Line + 1} {
		if number < 1 || number > len(lines) {
			continue
		}
		line := lines[number-1]
		indentation := line[:len(line)-len(bytes.TrimLeft(line, " \t-"))]
		if column := bytes.IndexByte(indentation, '\t'); column >= 0 {
			return &Mistake{Line: number, Column: column + 1, Text: "tab character; indent with spaces"}
		}
	}
	return wrong
}

func syntaxMistake(err error) *Mistake {
	failure, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return &Mistake{Text: "invalid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	text := Mistake{Line: failure.Mark.Line, Column: failure.Mark.Column, Text: "invalid YAML: " + failure.Message}
	for _, words := range syntaxWords {
		if !strings.Contains(failure.Message, words.part) {
			continue
		}
		text.Text = words.text
		if words.isBegin && failure.ContextMark.Line != 0 {
			text.Line, text.Column = failure.ContextMark.Line, failure.ContextMark.Column
		}
		break
	}
	return &text
}
