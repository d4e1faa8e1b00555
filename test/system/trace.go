package system

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Span is a span as Jaeger has it.
type Span struct {
	ID, ParentID  string
	Service, Name string
	Start         time.Time
	Duration      time.Duration
}

// Trace reads a trace from Jaeger's query API, sorted by start.
func (system *System) Trace(ctx context.Context, traceID string) ([]Span, error) {
	content, err := system.call(ctx, http.MethodGet, system.proxy("observability", "jaeger", 16686)+"/api/traces/"+traceID, "application/json", nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data []struct {
			Spans []struct {
				SpanID        string `json:"spanID"`
				OperationName string `json:"operationName"`
				ProcessID     string `json:"processID"`
				StartTime     int64  `json:"startTime"`
				Duration      int64  `json:"duration"`
				References    []struct {
					RefType string `json:"refType"`
					SpanID  string `json:"spanID"`
				} `json:"references"`
			} `json:"spans"`
			Processes map[string]struct {
				ServiceName string `json:"serviceName"`
			} `json:"processes"`
		} `json:"data"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("decoding trace %s: %w", traceID, err)
	}
	var spans []Span
	for _, trace := range answer.Data {
		for _, span := range trace.Spans {
			parent := ""
			for _, reference := range span.References {
				if reference.RefType == "CHILD_OF" {
					parent = reference.SpanID
				}
			}
			spans = append(spans, Span{
				ID: span.SpanID, ParentID: parent, Name: span.OperationName, Service: trace.Processes[span.ProcessID].ServiceName,
				Start: time.UnixMicro(span.StartTime), Duration: time.Duration(span.Duration) * time.Microsecond,
			})
		}
	}
	slices.SortFunc(spans, func(one, other Span) int {
		return cmp.Or(one.Start.Compare(other.Start), cmp.Compare(other.Duration, one.Duration))
	})
	return spans, nil
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
