package bench

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/embedded"
)

// BenchmarkTask runs one task at a time from Keptn's triggered event to its finished event: without tracing,
// with a collector, and with one that is down. It reports the median latencies of the started and the finished
// event in milliseconds. These should not differ beyond noise.
func BenchmarkTask(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	const gone = "http://127.0.0.1:1/v1/traces"
	for _, variant := range []struct{ name, endpoint string }{{"off", ""}, {"on", collector.URL + "/v1/traces"}, {"gone", gone}} {
		b.Run("tracing="+variant.name, func(b *testing.B) {
			var processors []sdktrace.SpanProcessor
			if variant.endpoint != "" {
				exporter, err := otlptracehttp.New(b.Context(), otlptracehttp.WithEndpointURL(variant.endpoint))
				if err != nil {
					b.Fatal(err)
				}
				processors = append(processors, sdktrace.NewBatchSpanProcessor(exporter))
			}
			system, err := embedded.Start(b.Context(), embedded.Options{
				Directory: b.TempDir(), Manifests: "../../config", Log: slog.DiscardHandler,
				Processors: func() []sdktrace.SpanProcessor { return processors },
				Programs:   map[string]embedded.Program{"docker.io/library/nothing": func(context.Context, embedded.Container) int { return 0 }},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer system.Close(b.Context())
			keptn := console.Keptn{Call: system.Call}
			files := map[string][]byte{"job/config.yaml": []byte("apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: nothing}\n")}
			if err := keptn.CreateProject(b.Context(), "bench", console.Shipyard("dev", "test"), "cart", []string{"dev"}, files); err != nil {
				b.Fatal(err)
			}
			started, finished := make([]float64, 0, b.N), make([]float64, 0, b.N)
			for b.Loop() {
				toStarted, toFinished, err := runTask(b.Context(), keptn)
				if err != nil {
					b.Fatal(err)
				}
				started, finished = append(started, toStarted), append(finished, toFinished)
			}
			b.ReportMetric(median(started), "ms-to-started")
			b.ReportMetric(median(finished), "ms-to-finished")
		})
	}
}

// runTask runs a sequence, and returns how long Keptn waited for its task's events.
func runTask(ctx context.Context, keptn console.Keptn) (toStarted, toFinished float64, err error) {
	keptnContext, err := keptn.Trigger(ctx, "bench", "dev", "pipeline", "cart", nil)
	if err != nil {
		return 0, 0, err
	}
	const limit = 30 * time.Second
	err = console.Eventually(ctx, limit, func(ctx context.Context) error {
		events, err := keptn.Events(ctx, keptnContext)
		if err != nil {
			return err
		}
		at := map[string]time.Time{}
		for _, event := range events {
			if at[event.Type], err = time.Parse(time.RFC3339Nano, event.Time); err != nil {
				return err
			}
		}
		const task = "sh.keptn.event.test."
		triggered, ended := at[task+"triggered"], at[task+"finished"]
		if ended.IsZero() {
			return errors.New("the task has not ended")
		}
		toStarted, toFinished = milliseconds(at[task+"started"].Sub(triggered)), milliseconds(ended.Sub(triggered))
		return nil
	})
	return toStarted, toFinished, err
}

func milliseconds(duration time.Duration) float64 { return duration.Seconds() * 1000 }

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
