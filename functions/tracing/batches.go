package tracing

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// exportDelay is for how long the first span of a batch waits for others.
	exportDelay = time.Second
	// never is longer than any process lives.
	never = 100 * 365 * 24 * time.Hour
)

// NewBatches returns a processor that gives spans to an exporter in batches: a second after the first of one has
// ended, or when OpenTelemetry's own batch is full. The context's values go with them.
func NewBatches(ctx context.Context, exporter sdktrace.SpanExporter) sdktrace.SpanProcessor {
	return &batches{
		SpanProcessor: sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithBatchTimeout(never)),
		ctx:           context.WithoutCancel(ctx),
	}
}

// batches are OpenTelemetry's, which by themselves would wake a process every second that has nothing to export:
// a third of what the CPU of one at rest was for.
type batches struct {
	sdktrace.SpanProcessor
	ctx context.Context //nolint:containedctx // of the process, since a batch is of no call
	// ended is how many spans have ended that are not known to be exported.
	ended atomic.Int64
}

// OnEnd implements sdktrace.SpanProcessor.
func (batches *batches) OnEnd(span sdktrace.ReadOnlySpan) {
	batches.SpanProcessor.OnEnd(span)
	if span.SpanContext().IsSampled() && batches.ended.Add(1) == 1 {
		time.AfterFunc(exportDelay, batches.export)
	}
}

// export is under way once at a time, however long it takes.
func (batches *batches) export() {
	ended := batches.ended.Load()
	if err := batches.ForceFlush(batches.ctx); err != nil {
		otel.Handle(err)
	}
	if batches.ended.Add(-ended) > 0 {
		time.AfterFunc(exportDelay, batches.export)
	}
}
