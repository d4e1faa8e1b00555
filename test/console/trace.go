package console

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Span is a span of a trace.
type Span struct {
	ID, ParentID  string
	Service, Name string
	Start         time.Time
	Duration      time.Duration
}

// IsWhole says whether the parent of every span is there.
func IsWhole(spans []Span) bool {
	known := map[string]bool{"": true}
	for _, span := range spans {
		known[span.ID] = true
	}
	return !slices.ContainsFunc(spans, func(span Span) bool { return !known[span.ParentID] })
}

// Tree draws spans as a tree with durations. Spans that the keep function does
// not keep are left out; their children move up.
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
