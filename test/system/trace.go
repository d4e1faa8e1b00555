package system

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/job-executor/job-executor/test/console"
)

// Jaeger's query API, as the cluster's pods see it.
const (
	jaegerPort   = 16686
	jaegerName   = "jaeger.observability.svc.cluster.local"
	jaegerHost   = jaegerName + ":16686"
	jaegerTraces = "/api/traces/"
)

// Trace reads a trace from Jaeger's query API, sorted by start.
func (i *Installation) Trace(ctx context.Context, traceID string) ([]console.Span, error) {
	traces, err := i.traces(ctx, jaegerTraces+traceID)
	if err != nil || len(traces) == 0 {
		return nil, err
	}
	return traces[0], nil
}

// Follow reads the trace that a link of TRACE_URL leads to.
func (i *Installation) Follow(ctx context.Context, link string) ([]console.Span, error) {
	path, ok := strings.CutPrefix(link, "http://"+jaegerHost+jaegerTraces)
	if !ok {
		return nil, fmt.Errorf("%q leads elsewhere", link)
	}
	return i.Trace(ctx, path)
}

// Functions are the names of the functions' services in traces.
func Functions() []string {
	return []string{"job-executor-bridge", "job-executor-executor", "job-executor-fetcher", "job-executor-jobsource", "job-executor-watcher"}
}

// Search reads the newest traces in which a service has a part, as Jaeger's page shows them.
func (i *Installation) Search(ctx context.Context, service string) ([][]console.Span, error) {
	return i.traces(ctx, searchQuery(service))
}

func searchQuery(service string) string {
	return "/api/traces?lookback=1h&limit=50&service=" + url.QueryEscape(service)
}

func (i *Installation) traces(ctx context.Context, query string) ([][]console.Span, error) {
	content, err := call(ctx, i.http, http.MethodGet, i.proxy("observability", "jaeger", jaegerPort)+query, "application/json", nil)
	if err != nil {
		return nil, err
	}
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
	var traces [][]console.Span
	for _, trace := range answer.Data {
		var spans []console.Span
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
			spans = append(spans, console.Span{
				ID: span.SpanID, ParentID: parent, Name: span.OperationName, Service: trace.Processes[span.ProcessID].ServiceName, Kind: kind,
				Start: time.UnixMicro(span.StartTime), Duration: time.Duration(span.Duration) * time.Microsecond,
				Result: cmp.Or(tags["cicd.pipeline.task.run.result"], tags["cicd.pipeline.result"]), Error: tags["otel.status_description"], Warnings: span.Warnings, Attributes: attributes,
			})
		}
		slices.SortFunc(spans, func(one, other console.Span) int {
			return cmp.Or(one.Start.Compare(other.Start), cmp.Compare(other.Duration, one.Duration))
		})
		traces = append(traces, spans)
	}
	return traces, nil
}
