package system

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
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

// Search reads the newest traces with a part in a service, as Jaeger's page shows them.
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
	return jaeger.Parse(content)
}
