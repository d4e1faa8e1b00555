package tracing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// collector notes when it gets spans, and their names.
type collector struct {
	began time.Time
	got   map[string][]string
}

func (collector *collector) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	at := time.Since(collector.began).String()
	for _, span := range spans {
		collector.got[at] = append(collector.got[at], span.Name())
	}
	return nil
}

func (*collector) Shutdown(context.Context) error { return nil }

func TestSpansAreExportedASecondAfterTheFirstOfThem(t *testing.T) {
	type spans = map[string][]string
	tests := []struct {
		name string
		// ends are how many milliseconds after the beginning spans end, by their names.
		ends map[string]int
		// shutdown is after how many milliseconds the process ends.
		shutdown int
		want     spans
	}{
		{name: "none", shutdown: 60_000, want: spans{}},
		{name: "one", ends: map[string]int{"one": 100}, shutdown: 60_000, want: spans{"1.1s": {"one"}}},
		{name: "several within a second", ends: map[string]int{"one": 100, "two": 200, "three": 1000}, shutdown: 60_000, want: spans{
			"1.1s": {"one", "two", "three"},
		}},
		{name: "several at other times", ends: map[string]int{"one": 100, "two": 1500, "three": 9000}, shutdown: 60_000, want: spans{
			"1.1s": {"one"}, "2.5s": {"two"}, "10s": {"three"},
		}},
		{name: "when the process ends before", ends: map[string]int{"one": 100}, shutdown: 500, want: spans{"500ms": {"one"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				exporter := &collector{began: time.Now(), got: spans{}}
				provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(NewBatches(t.Context(), exporter)))
				for name, after := range test.ends {
					time.AfterFunc(time.Duration(after)*time.Millisecond, func() {
						_, span := provider.Tracer("").Start(t.Context(), name)
						span.End()
					})
				}
				time.Sleep(time.Duration(test.shutdown) * time.Millisecond)
				if err := provider.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if difference := cmp.Diff(test.want, exporter.got); difference != "" {
					t.Errorf("exported (-want +got):\n%s", difference)
				}
			})
		})
	}
}

// slow takes a while to export.
type slow struct {
	sdktrace.SpanProcessor
	began   time.Time
	exports []string
}

func (*slow) OnEnd(sdktrace.ReadOnlySpan) {}

func (slow *slow) ForceFlush(context.Context) error {
	slow.exports = append(slow.exports, time.Since(slow.began).String())
	time.Sleep(20 * time.Second)
	return nil
}

func TestOneExportIsUnderWayAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &slow{began: time.Now()}
		processor := &batches{SpanProcessor: inner, ctx: t.Context()}
		sampled := tracetest.SpanStub{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceFlags: trace.FlagsSampled})}.Snapshot()
		for range 30 {
			processor.OnEnd(sampled)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if difference := cmp.Diff([]string{"1s", "22s", "43s"}, inner.exports); difference != "" {
			t.Errorf("exports (-want +got):\n%s", difference)
		}
	})
}
