package prometheus

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

func TestMetricsAreServedAsPrometheusReadsThem(t *testing.T) {
	registry := prometheus.NewRegistry()
	reader, err := NewReader(registry)
	if err != nil {
		t.Fatal(err)
	}
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	took, err := meter.Float64Histogram("cicd.pipeline.run.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(1))
	if err != nil {
		t.Fatal(err)
	}
	within := telemetry.WithRun(t.Context(), keptn.Task{Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", TriggeredID: "1"})
	took.Record(within, 0.5, metric.WithAttributes(attribute.String("cicd.pipeline.task.name", "test")))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, listener, registry, slog.New(slog.DiscardHandler)) }()
	get := func(accept string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		content, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", response.StatusCode, err)
		}
		return string(content)
	}
	const series = `cicd_pipeline_run_duration_seconds_bucket{cicd_pipeline_task_name="test",le="1.0"} 1`
	if got := get("text/plain"); !strings.Contains(got, strings.Replace(series, "1.0", "1", 1)) {
		t.Errorf("got %s", got)
	}
	if got := get("application/openmetrics-text"); !strings.Contains(got, series+" # {") || !strings.Contains(got, `trace_id="4ed578f61e1e4a119b2e9a7111760f5b"`) {
		t.Errorf("there is no exemplar: %s", got)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMetricsPort(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if loops := (Configuration{}).loops(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); len(loops) > 0 {
		t.Error("port 0 serves metrics")
	}
	loops := Configuration{Port: taken.Addr().(*net.TCPAddr).Port}.loops(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if len(loops) != 1 {
		t.Fatalf("got %d loops", len(loops))
	}
	if err := loops[0](t.Context()); err == nil || !strings.Contains(err.Error(), "METRICS_PORT") {
		t.Errorf("a port in use: %v", err)
	}
}
