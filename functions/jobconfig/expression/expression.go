package expression

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

// What one expression may take of the executor, which is everybody's.
const (
	// MaxPatternBytes and maxPatternSize bound a regular expression: its text, and the
	// instructions that it compiles to.
	MaxPatternBytes = 512
	maxPatternSize  = 5000
	// MaxPathBytes, maxPathWildcards and maxPathUnions bound a JSONPath: each wildcard and
	// each comma multiplies what it selects.
	MaxPathBytes     = 512
	maxPathWildcards = 2
	maxPathUnions    = 8
)

// Compile compiles a regular expression after it was measured; its size is about the
// number of instructions that it compiles to. What the error says follows "is no regular
// expression: ".
func Compile(pattern string) (compiled *regexp.Regexp, size int, err error) {
	if len(pattern) > MaxPatternBytes {
		return nil, 0, fmt.Errorf("it has %d characters, more than %d", len(pattern), MaxPatternBytes)
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
	if len(path) > MaxPathBytes {
		return fmt.Errorf("is a JSONPath of %d characters, more than %d", len(path), MaxPathBytes)
	}
	bare := withoutTexts(path)
	wildcards := strings.Count(bare, "*") + strings.Count(bare, "..") + strings.Count(bare, "?")
	switch {
	case strings.Count(bare, "..") > 1 || wildcards > maxPathWildcards:
		return fmt.Errorf("is a JSONPath with more than one .. or more than %d wildcards: %s", maxPathWildcards, path)
	case strings.Count(bare, ",") > maxPathUnions:
		return fmt.Errorf("is a JSONPath with more than %d commas: %s", maxPathUnions, path)
	case strings.Count(bare, "$") > 1:
		return fmt.Errorf("is a JSONPath that begins anew within itself, by a second $: %s", path)
	}
	if _, err := parse(path); err != nil {
		return fmt.Errorf("%q is no JSONPath; write it as $.data.service, $.data.list[0] or $.data.labels['build-id']", path)
	}
	return nil
}

// Searches reports whether a JSONPath searches all of an event, rather than one place.
func Searches(path string) bool {
	bare := withoutTexts(path)
	return strings.ContainsAny(bare, "*?") || strings.Contains(bare, "..")
}

// texts are those within a JSONPath: names, and what values are compared to.
var texts = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"`)

// withoutTexts is a JSONPath without its texts, in which wildcards and all else that is counted say nothing.
func withoutTexts(path string) string { return texts.ReplaceAllString(path, "") }

// parse parses a JSONPath of RFC 9535, without its functions: the job-executor-service has none, and the
// regular expressions of two would be bounded by nothing.
func parse(path string) (*jsonpath.Path, error) {
	return jsonpath.NewParser(jsonpath.WithRegistry(&registry.Registry{})).Parse(path)
}

// Lookup is what a JSONPath selects of an event: a value if it can only select one, else a list. If it can
// only select one, and there is nothing, that is an error, which names what is missing.
func Lookup(path string, event map[string]any) (any, error) {
	parsed, err := parse(path)
	if err != nil {
		return nil, fmt.Errorf("parsing a JSONPath: %w", err)
	}
	selected := parsed.SelectLocated(event)
	if parsed.Query().Singular() != nil {
		if len(selected) == 0 {
			return nil, missing(parsed.Query().Segments(), event)
		}
		return selected[0].Node, nil
	}
	if Searches(path) {
		selected.Sort() // the members of an object come in any order
	}
	values := make([]any, 0, len(selected))
	for value := range selected.Nodes() {
		values = append(values, value)
	}
	return values, nil
}

// missing tells the first of a path's names and indices that an event does not have.
func missing(path []*spec.Segment, event map[string]any) error {
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
	return errors.New("there is nothing")
}
