package telemetry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/job-executor/job-executor/functions/keptn"
)

func TestLogLinesHaveTheEventAndTheTrace(t *testing.T) {
	var log bytes.Buffer
	signals := To("test", slog.NewJSONHandler(&log, nil), sdktrace.NewSimpleSpanProcessor(tracetest.NewInMemoryExporter()))
	ctx, span := signals.Tracers.Tracer("").Start(WithRun(t.Context(), keptn.Task{Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"}), "one")
	defer span.End()
	of := event.New()
	of.SetID("2")
	of.SetSubject("job-1")
	of.SetExtension(keptn.ContextExtension, "4ed5")
	signals.Log.With("a", 1).WithGroup("g").InfoContext(WithEvent(ctx, of), "hello", "subject", "its own")
	if !strings.Contains(log.String(), `"subject":"its own","event_id":"2","keptncontext":"4ed5","trace_id":"4ed578f61e1e4a119b2e9a7111760f5b"`) {
		t.Errorf("got %s", log.String())
	}
}
