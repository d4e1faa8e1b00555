package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Span is a span of a trace.
type Span struct {
	ID, ParentID  string
	Service, Name string
	// Kind is the OpenTelemetry kind, such as SERVER.
	Kind     string
	Start    time.Time
	Duration time.Duration
	// Result is the result of a run or Job, and Error the error of the span, if any.
	Result, Error string
	// Attributes are the keys of the attributes.
	Attributes []string
	// Warnings are a viewer's warnings.
	Warnings []string
}

// ours is the prefix of our services' names.
const ours = "job-executor-"

// IsOurs reports whether a span belongs to a function, and not to Knative.
func IsOurs(span Span) bool { return strings.HasPrefix(span.Service, ours) }

// OfOurs returns the spans of our functions.
func OfOurs(spans []Span) []Span {
	return slices.DeleteFunc(slices.Clone(spans), func(span Span) bool { return !IsOurs(span) })
}

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
			line := indent + span.Kind + " " + strings.TrimPrefix(span.Service, ours) + " " + span.Name
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
	return slices.ContainsFunc(spans, func(span Span) bool { return span.ParentID == "" }) && IsWhole(spans)
}

// IsWhole reports whether every span's parent exists.
func IsWhole(spans []Span) bool {
	known := map[string]bool{"": true}
	for _, span := range spans {
		known[span.ID] = true
	}
	return !slices.ContainsFunc(spans, func(span Span) bool { return !known[span.ParentID] })
}

// Tree draws spans as a tree with durations. The children of spans that keep rejects move up.
func Tree(spans []Span, keep func(Span) bool) string {
	byID := map[string]Span{}
	for _, span := range spans {
		byID[span.ID] = span
	}
	children := map[string][]Span{}
	for _, span := range spans {
		if !keep(span) {
			continue
		}
		parent := span.ParentID
		for parent != "" {
			above, known := byID[parent]
			if !known {
				parent = ""
			} else if keep(above) {
				break
			} else {
				parent = above.ParentID
			}
		}
		children[parent] = append(children[parent], span)
	}
	var text strings.Builder
	draw(&text, children, "", "")
	return text.String()
}

const nameWidth = 86

func draw(text *strings.Builder, children map[string][]Span, parent, indent string) {
	for index, span := range children[parent] {
		branch, below := "├─ ", "│  "
		if index == len(children[parent])-1 {
			branch, below = "└─ ", "   "
		}
		if parent == "" {
			branch, below = "", ""
		}
		line := indent + branch + span.Service + ": " + span.Name
		padding := max(1, nameWidth-len([]rune(line)))
		fmt.Fprintf(text, "%s%s%10s\n", line, strings.Repeat(" ", padding), rounded(span.Duration))
		draw(text, children, span.ID, indent+below)
	}
}

func rounded(duration time.Duration) string {
	if duration < time.Second {
		return fmt.Sprintf("%.1f ms", float64(duration.Microseconds())/1000) //nolint:mnd // microseconds to milliseconds
	}
	return fmt.Sprintf("%.2f s", duration.Seconds())
}
