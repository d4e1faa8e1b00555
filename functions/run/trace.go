package run

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	batchv1 "k8s.io/api/batch/v1"
)

const traceparent = "traceparent"

// ContextOf returns a context within the trace that a Job belongs to.
func ContextOf(ctx context.Context, propagator propagation.TextMapPropagator, job *batchv1.Job) context.Context {
	return propagator.Extract(ctx, propagation.MapCarrier{traceparent: job.Annotations[TraceparentAnnotation]})
}

// TraceparentOf is what a Job's TraceparentAnnotation is to be, from the executor's
// context; empty without a trace.
func TraceparentOf(ctx context.Context, propagator propagation.TextMapPropagator) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier.Get(traceparent)
}
