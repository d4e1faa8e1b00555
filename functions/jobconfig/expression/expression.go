package expression

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/PaesslerAG/jsonpath"
)

// What one expression may take of the executor, which is everybody's.
const (
	// maxPatternBytes and maxPatternSize bound a regular expression: its text, and the
	// instructions that it compiles to.
	maxPatternBytes = 512
	maxPatternSize  = 5000
	// maxPathBytes and maxPathWildcards bound a JSONPath: each wildcard multiplies what
	// it selects.
	maxPathBytes     = 512
	maxPathWildcards = 2
)

// Compile compiles a regular expression after it was measured; its size is about the
// number of instructions that it compiles to. What the error says follows "is no regular
// expression: ".
func Compile(pattern string) (compiled *regexp.Regexp, size int, err error) {
	if len(pattern) > maxPatternBytes {
		return nil, 0, fmt.Errorf("it has %d characters, more than %d", len(pattern), maxPatternBytes)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if failure, ok := errors.AsType[*syntax.Error](err); ok {
		return nil, 0, fmt.Errorf("%s: %s", failure.Code, failure.Expr)
	}
	if size = sizeOf(parsed); size > maxPatternSize {
		return nil, 0, errors.New("its repetitions are too large")
	}
	compiled, err = regexp.Compile(pattern)
	return compiled, size, err
}

// sizeOf estimates how many instructions a regular expression compiles to, without
// compiling it.
func sizeOf(parsed *syntax.Regexp) int {
	size := 1 + len(parsed.Rune)
	for _, part := range parsed.Sub {
		size = min(size+sizeOf(part), 10*maxPatternSize)
	}
	if parsed.Op == syntax.OpRepeat {
		size = min(size*max(parsed.Max, parsed.Min, 1), 10*maxPatternSize)
	}
	return size
}

// CheckPath refuses a JSONPath that is none, or could select too much. What it says
// follows the path of the value.
func CheckPath(path string) error {
	if len(path) > maxPathBytes {
		return fmt.Errorf("is a JSONPath of %d characters, more than %d", len(path), maxPathBytes)
	}
	if strings.Count(path, "..") > 1 || strings.Count(path, "*")+strings.Count(path, "..") > maxPathWildcards {
		return fmt.Errorf("is a JSONPath with more than one .. or more than %d wildcards: %s", maxPathWildcards, path)
	}
	if _, err := jsonpath.New(dialect(path)); err != nil {
		return fmt.Errorf("%q is no JSONPath; write it as $.data.service, $.data.list[0] or $.data.labels['build-id']", path)
	}
	return nil
}

// Lookup is what a JSONPath selects of an event; nothing is an error.
func Lookup(path string, event map[string]any) (any, error) {
	return jsonpath.Get(dialect(path), event)
}

// dialect is a JSONPath in the words of the library, which takes texts in double quotes
// only (RFC 9535 has single ones, too).
func dialect(path string) string {
	var text strings.Builder
	for rest := path; rest != ""; {
		begin := strings.IndexAny(rest, `'"`)
		if begin < 0 {
			text.WriteString(rest)
			break
		}
		quote, inner := rest[begin], rest[begin+1:]
		end := 0
		for end < len(inner) && inner[end] != quote {
			if inner[end] == '\\' && end+1 < len(inner) {
				end++
			}
			end++
		}
		if end >= len(inner) {
			return path // it is not closed: no JSONPath at all
		}
		text.WriteString(rest[:begin])
		if quote == '"' {
			text.WriteString(`"` + inner[:end] + `"`)
		} else {
			text.WriteString(strconv.Quote(strings.ReplaceAll(inner[:end], `\'`, `'`)))
		}
		rest = inner[end+1:]
	}
	return text.String()
}
