package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
)

// Span is a span of a trace.
type Span = jaeger.Span

// Outline draws the spans of a trace as trees without varying details. Each line has a span's kind, function
// and name, the result of a run or Job, and an error. Siblings are sorted, and equal ones drawn once, because
// an event may be delivered again. Orphans come last.
func Outline(spans []Span) string {
	known, children := map[string]bool{"": true}, map[string][]Span{}
	for _, span := range spans {
		known[span.ID] = true
	}
	const lost = "lost"
	for _, span := range spans {
		parent := span.ParentID
		if !known[parent] {
			parent = lost
		}
		children[parent] = append(children[parent], span)
	}
	var text strings.Builder
	outline(&text, children, []string{""}, "")
	if len(children[lost]) > 0 {
		text.WriteString("without their parents:\n")
		outline(&text, children, []string{lost}, "  ")
	}
	return text.String()
}

// outline draws the children of equal parents.
func outline(text *strings.Builder, children map[string][]Span, parents []string, indent string) {
	alike := map[string][]string{} // ids by line
	for _, parent := range parents {
		for _, span := range children[parent] {
			line := indent + span.Kind + " " + strings.TrimPrefix(span.Service, jaeger.ServicePrefix) + " " + span.Name
			if span.Result != "" {
				line += " = " + span.Result
			}
			if span.Error != "" {
				line += " ! " + span.Error
			}
			alike[line] = append(alike[line], span.ID)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(alike)) {
		text.WriteString(line + "\n")
		outline(text, children, alike[line], indent+"  ")
	}
}

// Attributes lists the attribute keys of the spans of each name.
func Attributes(spans []Span) string {
	byName := map[string]map[string]bool{}
	for _, span := range spans {
		if byName[span.Name] == nil {
			byName[span.Name] = map[string]bool{}
		}
		for _, key := range span.Attributes {
			byName[span.Name][key] = true
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		fmt.Fprintf(&text, "%s: %s\n", name, strings.Join(slices.Sorted(maps.Keys(byName[name])), " "))
	}
	return text.String()
}

// Depth returns the depth of the tree.
func Depth(spans []Span) int {
	parents := map[string]string{}
	for _, span := range spans {
		parents[span.ID] = span.ParentID
	}
	deepest := 0
	for id := range parents {
		depth := 0
		for ; id != "" && depth <= len(spans); id = parents[id] {
			depth++
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

// HasEnded reports whether a trace is complete and has a root, which is written last.
func HasEnded(spans []Span) bool {
	return slices.ContainsFunc(spans, func(span Span) bool { return span.ParentID == "" }) && jaeger.IsWhole(spans)
}
