package reader

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Tree returns the root of a file, nil if the file is empty, or its syntax error.
func Tree(content []byte) (*yaml.Node, *Mistake) {
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
		return nil, &Mistake{Line: next.Line, Column: next.Column, Text: "a second document begins here (---), which nobody reads; put its actions into the first"}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, syntaxMistake(err)
	}
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		return Follow(document.Content[0]), nil
	}
	return &document, nil
}

// isEmpty reports whether a document is empty, as after a last ---.
func isEmpty(document *yaml.Node) bool {
	return document.Kind == yaml.DocumentNode && len(document.Content) == 1 && Value{Node: document.Content[0]}.IsNull()
}

// unprintable returns the first character that YAML does not allow.
func unprintable(content []byte) *Mistake {
	line, column := 1, 1
	for index := 0; index < len(content); {
		char, size := utf8.DecodeRune(content[index:])
		switch {
		case char == utf8.RuneError && size <= 1:
			return &Mistake{Line: line, Column: column, Text: "this is no UTF-8 text"}
		case char < ' ' && char != '\n' && char != '\r' && char != '\t' || char == '\x7f':
			return &Mistake{Line: line, Column: column, Text: "there is a control character here, which can't be in a file"}
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
	told    string
}{
	{"',' or ']'", true, "this list is not closed by ], or a comma is missing in it"},
	{"',' or '}'", true, "this map is not closed by }, or a comma is missing in it"},
	{"end of stream", true, "this text in quotes is not closed"},
	{"document indicator", true, "this text in quotes is not closed"},
	{"expected ':'", true, "there is no colon with a blank after this key"},
	{"expected key", false, "this does not fit what stands before it; look at the indentation"},
	{"expected '-'", false, "this does not fit what stands before it; look at the indentation"},
	{"block sequence entries", false, "there can't be an item of a list here; look at the indentation"},
	{"mapping values", false, "there can't be a key here; look at the indentation, and quote a text that has a colon"},
	{"tab", false, "tab character; indent with spaces"},
	{"cannot start any token", false, "no value can begin by this character; quote the text"},
	{"escape", false, "there is no such escape in a text in double quotes"},
	{"unknown anchor", false, "there is no anchor (&) of this name; quote a text that begins by *"},
	{"alias or anchor", false, "the name of an anchor (&) or alias (*) is missing; quote the text"},
	{"node content", false, "there is no value here; quote a text that begins by such a character"},
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
		return &Mistake{Text: "it is no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	told := Mistake{Line: failure.Mark.Line, Column: failure.Mark.Column, Text: "this is no YAML: " + failure.Message}
	for _, words := range syntaxWords {
		if !strings.Contains(failure.Message, words.part) {
			continue
		}
		told.Text = words.told
		if words.isBegin && failure.ContextMark.Line != 0 {
			told.Line, told.Column = failure.ContextMark.Line, failure.ContextMark.Column
		}
		break
	}
	return &told
}
