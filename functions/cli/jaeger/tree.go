package jaeger

import (
	"fmt"
	"strings"
	"time"
)

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
		if span.Result != "" {
			line += " = " + span.Result
		}
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
