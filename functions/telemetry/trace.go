package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
)

// TraceID returns the trace id of a Keptn context. Both have 16 bytes, so a search for one finds the other. For
// any other text it returns the first bytes of its SHA-256.
func TraceID(keptnContext string) trace.TraceID {
	var id trace.TraceID
	content, err := hex.DecodeString(strings.ReplaceAll(keptnContext, "-", ""))
	if err != nil || len(content) != len(id) || trace.TraceID(content) == (trace.TraceID{}) {
		sum := sha256.Sum256([]byte(keptnContext))
		content = sum[:]
	}
	copy(id[:], content)
	return id
}

// SpanID returns the id of the span about something: the first 8 bytes of the SHA-256 of its parts, joined by
// slashes.
func SpanID(about ...string) trace.SpanID {
	var id trace.SpanID
	sum := sha256.Sum256([]byte(strings.Join(about, "/")))
	copy(id[:], sum[:])
	return id
}

// Parts of a Job whose span ids are needed before the Job exists. They are derived from the Job's name, since
// it has no uid yet.
const (
	Fetch = "fetch"
	Run   = "run"
)

// WithParent returns a context whose spans are children of a span that may not exist yet.
func WithParent(ctx context.Context, traceID trace.TraceID, id trace.SpanID) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: id, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// WithRun returns a context whose spans are children of the task's RUN span. The bridge writes that span when
// Keptn no longer waits for the task.
func WithRun(ctx context.Context, task keptn.Task) context.Context {
	return WithParent(ctx, TraceID(task.Context), SpanID(task.TriggeredID))
}

// TaskAttributes returns the attributes of a span about a task (OpenTelemetry semantic conventions 1.37, CICD
// and VCS, and Keptn's terms).
func TaskAttributes(task keptn.Task) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("cicd.pipeline.name", task.Project+"/"+task.Stage), attribute.String("cicd.pipeline.run.id", task.Context),
		attribute.String("cicd.pipeline.task.name", task.Name), attribute.String("cicd.pipeline.task.run.id", task.TriggeredID),
		attribute.String("keptn.context", task.Context), attribute.String("keptn.project", task.Project), attribute.String("keptn.stage", task.Stage),
		attribute.String("keptn.service", task.Service), attribute.String("keptn.task", task.Name),
	}
	if task.GitCommitID != "" {
		attributes = append(attributes, attribute.String("vcs.ref.head.revision", task.GitCommitID))
	}
	return attributes
}

// StartSend starts the span of sending an event about a task. Its parent is the context's span, or else the
// task's RUN span.
func StartSend(
	ctx context.Context, tracer trace.Tracer, task keptn.Task, eventType string, attributes ...attribute.KeyValue,
) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = WithRun(ctx, task)
	}
	return tracer.Start(ctx, "send "+eventType, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("messaging.operation.type", "send")), trace.WithAttributes(attributes...), trace.WithAttributes(TaskAttributes(task)...))
}

// Reply adds the task's RUN span to a reply. It is for replies to untraced events that continue a trace.
func Reply(ctx context.Context, tracer trace.Tracer, task keptn.Task, reply *event.Event) *event.Event {
	ctx, span := StartSend(ctx, tracer, task, reply.Type())
	defer span.End()
	reply.SetExtension(Extension, Text(ctx))
	return reply
}

// EventAttributes returns the attributes of a span about an event (OpenTelemetry semantic conventions 1.37,
// CloudEvents and messaging).
func EventAttributes(of event.Event) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "cloudevents"), attribute.String("messaging.message.id", of.ID()),
		attribute.String("cloudevents.event_id", of.ID()), attribute.String("cloudevents.event_source", of.Source()),
		attribute.String("cloudevents.event_type", of.Type()),
	}
}

// Fail marks a span as failed, with the type of the error and a sentence.
func Fail(span trace.Span, errorType, sentence string) {
	span.SetStatus(codes.Error, sentence)
	span.SetAttributes(attribute.String("error.type", errorType))
}

// Note adds an error to a span that does not mark it as failed, because the operation is retried.
func Note(span trace.Span, what string, err error) {
	span.AddEvent(what, trace.WithAttributes(attribute.String("exception.message", err.Error())))
}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// Start starts a span with an id as a child of the context's span, or as the root of a trace with an id. Other
// spans of the returned context get random ids.
func Start(
	ctx context.Context, tracer trace.Tracer, traceID trace.TraceID, id trace.SpanID, name string, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	_, span := tracer.Start(context.WithValue(ctx, idsKey{}, ids{traceID, id}), name, options...)
	return trace.ContextWithSpan(ctx, span), span
}

// IDGenerator creates random ids, except for spans of Start.
type IDGenerator struct{}

// NewIDs returns the ids of a root span.
func (IDGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if wanted, ok := ctx.Value(idsKey{}).(ids); ok {
		return wanted.trace, wanted.span
	}
	var id trace.TraceID
	_, _ = rand.Read(id[:])
	return id, IDGenerator{}.NewSpanID(ctx, id)
}

// NewSpanID returns the id of a child span.
func (IDGenerator) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if wanted, ok := ctx.Value(idsKey{}).(ids); ok {
		return wanted.span
	}
	var id trace.SpanID
	_, _ = rand.Read(id[:])
	return id
}

// Extension is the attribute of an event with the sender's span (CloudEvents Distributed Tracing extension). A
// Broker replaces the HTTP header of the same name by its own span, but passes this attribute on, also in
// replies.
const Extension = keptn.TraceparentExtension

// Text returns the context's span as a traceparent (W3C Trace Context); empty if there is none.
func Text(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get(Extension)
}

// Parse returns the span of a traceparent. It is invalid if the traceparent is.
func Parse(ctx context.Context, traceparent string) trace.SpanContext {
	outside := trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(outside, propagation.MapCarrier{Extension: traceparent}))
}
