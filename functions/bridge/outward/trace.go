package outward

import (
	"context"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/tracing"
)

// Trace writes the span of each task's run, from the triggered event to the moment when Keptn
// no longer waits for the task. It is the root of all other spans of the task, which are
// below it before it is written.
type Trace struct {
	Tracer trace.Tracer
	Now    func() time.Time

	written memory.Memory[bool]
}

// maxStatusBytes bounds the status of a span, which is a sentence.
const maxStatusBytes = 1 << 10

// Write writes a task's span once, whoever finds that its run is over. Message is what the
// user is told; its first sentence explains a result that is none to wish for.
func (written *Trace) Write(ctx context.Context, task keptn.Task, result keptn.RunResult, message string) {
	isWritten, release, err := written.written.Hold(ctx, task.TriggeredID)
	if err != nil {
		return // the process ends
	}
	defer release()
	if *isWritten {
		return
	}
	*isWritten = true
	// What is done for the event at hand is a part of it, and so ends before.
	trace.SpanFromContext(ctx).End()
	ended := written.Now()
	began := task.TriggeredAt
	if began.IsZero() || began.After(ended) {
		began = ended
	}
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began), trace.WithAttributes(tracing.TaskAttributes(task)...),
	}
	if cause := tracing.Parse(task.Traceparent); cause.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: cause}))
	}
	_, span := tracing.Start(ctx, written.Tracer, tracing.TraceID(task.Context), tracing.SpanID(task.TriggeredID), "RUN "+task.Name, options...)
	if result != "" {
		span.SetAttributes(attribute.String("cicd.pipeline.task.run.result", string(result)))
	}
	switch result {
	case keptn.RunFailure, keptn.RunError, keptn.RunTimeout:
		sentence, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
		span.SetStatus(codes.Error, sentence[:min(len(sentence), maxStatusBytes)])
		span.SetAttributes(attribute.String("error.type", string(result)))
	case keptn.RunSuccess, keptn.RunSkip, keptn.RunCancellation:
	}
	span.End(trace.WithTimestamp(ended))
}

// WithTrace returns a sender whose every attempt is a span below the context's, or below that
// of the task's run.
func WithTrace(sender Sender, tracer trace.Tracer) Sender { return tracedSender{sender, tracer} }

type tracedSender struct {
	Sender
	tracer trace.Tracer
}

// Send returns the sender's error.
func (traced tracedSender) Send(ctx context.Context, outgoing event.Event) error {
	task, _, err := keptn.ParseTask(outgoing)
	if err != nil {
		return traced.Sender.Send(ctx, outgoing)
	}
	ctx, span := tracing.StartSend(ctx, traced.tracer, task, outgoing.Type(), tracing.EventAttributes(outgoing)...)
	defer span.End()
	err = traced.Sender.Send(ctx, outgoing)
	switch saidOf(err) {
	case taken:
	case refused:
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attribute.String("error.type", "refused"))
	default:
		span.AddEvent("not taken", trace.WithAttributes(attribute.String("exception.message", err.Error())))
	}
	return err
}
