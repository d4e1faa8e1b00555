package jaeger

import (
	"cmp"
	"encoding/json"
	"fmt"
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

// Parse returns the spans of each trace in an answer of Jaeger's query API, sorted by start.
func Parse(content []byte) ([][]Span, error) {
	var answer struct {
		Data []struct {
			Spans []struct {
				SpanID        string   `json:"spanID"`
				OperationName string   `json:"operationName"`
				ProcessID     string   `json:"processID"`
				StartTime     int64    `json:"startTime"`
				Duration      int64    `json:"duration"`
				Warnings      []string `json:"warnings"`
				Tags          []struct {
					Key   string `json:"key"`
					Value any    `json:"value"`
				} `json:"tags"`
				References []struct {
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
		return nil, fmt.Errorf("decode traces: %w", err)
	}
	var traces [][]Span
	for _, trace := range answer.Data {
		var spans []Span
		for _, span := range trace.Spans {
			parent := ""
			for _, reference := range span.References {
				if reference.RefType == "CHILD_OF" {
					parent = reference.SpanID
				}
			}
			tags := map[string]string{}
			var attributes []string
			for _, tag := range span.Tags {
				tags[tag.Key] = fmt.Sprint(tag.Value)
				// Others are Jaeger's further fields of a span.
				if tag.Key != "span.kind" && tag.Key != "error" && !strings.HasPrefix(tag.Key, "otel.") {
					attributes = append(attributes, tag.Key)
				}
			}
			kind := strings.ToUpper(cmp.Or(tags["span.kind"], "internal"))
			spans = append(spans, Span{
				ID: span.SpanID, ParentID: parent, Name: span.OperationName, Service: trace.Processes[span.ProcessID].ServiceName, Kind: kind,
				Start: time.UnixMicro(span.StartTime), Duration: time.Duration(span.Duration) * time.Microsecond,
				Result: cmp.Or(tags["cicd.pipeline.task.run.result"], tags["cicd.pipeline.result"]), Error: tags["otel.status_description"], Warnings: span.Warnings, Attributes: attributes,
			})
		}
		slices.SortFunc(spans, func(one, other Span) int {
			return cmp.Or(one.Start.Compare(other.Start), cmp.Compare(other.Duration, one.Duration))
		})
		traces = append(traces, spans)
	}
	return traces, nil
}

// ServicePrefix begins the names of our services.
const ServicePrefix = "job-executor-"

// IsOurs reports whether a span belongs to a function, and not to Knative.
func IsOurs(span Span) bool { return strings.HasPrefix(span.Service, ServicePrefix) }

// OfOurs returns the spans of our functions.
func OfOurs(spans []Span) []Span {
	return slices.DeleteFunc(slices.Clone(spans), func(span Span) bool { return !IsOurs(span) })
}

// IsWhole reports whether every span's parent exists.
func IsWhole(spans []Span) bool {
	known := map[string]bool{"": true}
	for _, span := range spans {
		known[span.ID] = true
	}
	return !slices.ContainsFunc(spans, func(span Span) bool { return !known[span.ParentID] })
}
