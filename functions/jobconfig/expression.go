package jobconfig

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/theory/jsonpath"
	"github.com/theory/jsonpath/registry"
	"github.com/theory/jsonpath/spec"
)

// Limits of one expression, since all projects share the executor.
const (
	// maxPatternBytes and maxPatternSize bound a regular expression: its text, and its compiled instructions.
	maxPatternBytes = 512
	maxPatternSize  = 5000
	// maxPathBytes, maxPathWildcards and maxPathUnions bound a JSONPath. Each wildcard and each comma
	// multiplies the results.
	maxPathBytes     = 512
	maxPathWildcards = 2
	maxPathUnions    = 8
)

// compilePattern measures and compiles a regular expression. The size is about the number of instructions. The text of
// its error follows "is no regular expression: ".
func compilePattern(pattern string) (compiled *regexp.Regexp, size int, err error) {
	if len(pattern) > maxPatternBytes {
		return nil, 0, fmt.Errorf("it has %d characters; the limit is %d", len(pattern), maxPatternBytes)
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

// sizeOf estimates the instructions of a regular expression without compiling it.
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

// checkPath returns an error for an invalid JSONPath, or one that could select too much. The text of the error
// follows the path of the value.
func checkPath(path string) error {
	if len(path) > maxPathBytes {
		return fmt.Errorf("is a JSONPath of %d characters; the limit is %d", len(path), maxPathBytes)
	}
	bare := withoutTexts(path)
	wildcards := strings.Count(bare, "*") + strings.Count(bare, "..") + strings.Count(bare, "?")
	switch {
	case strings.Count(bare, "..") > 1 || wildcards > maxPathWildcards:
		return fmt.Errorf("is a JSONPath with more than one .. or more than %d wildcards: %s", maxPathWildcards, path)
	case strings.Count(bare, ",") > maxPathUnions:
		return fmt.Errorf("is a JSONPath with more than %d commas: %s", maxPathUnions, path)
	case strings.Count(bare, "$") > 1:
		return fmt.Errorf("is a JSONPath with a second $: %s", path)
	}
	if _, err := parsePath(path); err != nil {
		return fmt.Errorf("%q is not a JSONPath; write, for example, $.data.service, $.data.list[0] or $.data.labels['build-id']", path)
	}
	return nil
}

// searchesAll reports whether a JSONPath searches the whole event.
func searchesAll(path string) bool {
	bare := withoutTexts(path)
	return strings.ContainsAny(bare, "*?") || strings.Contains(bare, "..")
}

// quoted are the quoted parts of a JSONPath.
var quoted = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"`)

// withoutTexts returns a JSONPath without its quoted parts, which must not be counted.
func withoutTexts(path string) string { return quoted.ReplaceAllString(path, "") }

// parsePath parses a JSONPath of RFC 9535 without functions: the job-executor-service has none, and two of them
// evaluate unbounded regular expressions.
func parsePath(path string) (*jsonpath.Path, error) {
	return jsonpath.NewParser(jsonpath.WithRegistry(&registry.Registry{})).Parse(path)
}

// lookup returns the selection of a JSONPath: a value if it can select only one, otherwise a list. If the only
// value does not exist, the error names what is missing.
func lookup(path string, event map[string]any) (any, error) {
	parsed, err := parsePath(path)
	if err != nil {
		return nil, fmt.Errorf("parse a JSONPath: %w", err)
	}
	selected := parsed.SelectLocated(event)
	if parsed.Query().Singular() != nil {
		if len(selected) == 0 {
			return nil, missingIn(parsed.Query().Segments(), event)
		}
		return selected[0].Node, nil
	}
	if searchesAll(path) {
		selected.Sort() // members of an object have no order
	}
	values := make([]any, 0, len(selected))
	for value := range selected.Nodes() {
		values = append(values, value)
	}
	return values, nil
}

// missingIn returns the first name or index of a path that does not exist in the event.
func missingIn(path []*spec.Segment, event map[string]any) error {
	for index, segment := range path {
		if len(jsonpath.New(spec.Query(true, path[:index+1]...)).Select(event)) > 0 {
			continue
		}
		switch selector := segment.Selectors()[0].(type) {
		case spec.Name:
			return fmt.Errorf("unknown key %s", string(selector))
		case spec.Index:
			return fmt.Errorf("index %d out of bounds", int(selector))
		}
	}
	return errors.New("not found")
}
