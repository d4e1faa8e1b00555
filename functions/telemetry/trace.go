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

// TraceID is the trace of a Keptn context, a UUID: both are 16 bytes, so a search for the
// one finds the other. Of any other text it is the beginning of its SHA-256.
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

// SpanID is the id of the span that is about something: the first 8 bytes of the SHA-256 of
// its parts, with a slash between them.
func SpanID(about ...string) trace.SpanID {
	var id trace.SpanID
	sum := sha256.Sum256([]byte(strings.Join(about, "/")))
	copy(id[:], sum[:])
	return id
}

// The parts of a Job that others have to know before it exists, and so before it has a uid:
// their spans' ids are made of its name, too.
const (
	Fetch = "fetch"
	Run   = "run"
)

// WithParent returns a context in which spans are started below the one of an id, which
// may not exist yet.
func WithParent(ctx context.Context, traceID trace.TraceID, id trace.SpanID) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: id, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// WithRun returns a context in which spans are started below that of a task's run: RUN, which
// the bridge writes when Keptn no longer waits for the task.
func WithRun(ctx context.Context, task keptn.Task) context.Context {
	return WithParent(ctx, TraceID(task.Context), SpanID(task.TriggeredID))
}

// TaskAttributes are the attributes of a span that is about a task (OpenTelemetry semantic
// conventions 1.37, CICD and VCS, and Keptn's own terms).
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

// StartSend starts the span of giving an event of a type that is about a task: below the
// context's span, or below that of the task's run if there is none.
func StartSend(
	ctx context.Context, tracer trace.Tracer, task keptn.Task, eventType string, attributes ...attribute.KeyValue,
) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = WithRun(ctx, task)
	}
	return tracer.Start(ctx, "send "+eventType, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("messaging.operation.type", "send")), trace.WithAttributes(attributes...), trace.WithAttributes(TaskAttributes(task)...))
}

// Reply returns an event as one that was sent below the span of its task's run: a reply to who is
// in no trace, but that begins something which is.
func Reply(ctx context.Context, tracer trace.Tracer, task keptn.Task, reply *event.Event) *event.Event {
	ctx, span := StartSend(ctx, tracer, task, reply.Type())
	defer span.End()
	reply.SetExtension(Extension, Text(ctx))
	return reply
}

// EventAttributes are the attributes of a span that is about an event (OpenTelemetry semantic
// conventions 1.37, CloudEvents and messaging).
func EventAttributes(of event.Event) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "cloudevents"), attribute.String("messaging.message.id", of.ID()),
		attribute.String("cloudevents.event_id", of.ID()), attribute.String("cloudevents.event_source", of.Source()),
		attribute.String("cloudevents.event_type", of.Type()),
	}
}

// Fail marks a span, with the kind of error that it is and a sentence.
func Fail(span trace.Span, errorType, sentence string) {
	span.SetStatus(codes.Error, sentence)
	span.SetAttributes(attribute.String("error.type", errorType))
}

// Note notes an error in a span that it does not mark: what failed is done again.
func Note(span trace.Span, what string, err error) {
	span.AddEvent(what, trace.WithAttributes(attribute.String("exception.message", err.Error())))
}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// Start starts a span of this id below the context's; below none it begins the trace of
// this id. The context that it returns gives no other span the id.
func Start(
	ctx context.Context, tracer trace.Tracer, traceID trace.TraceID, id trace.SpanID, name string, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	_, span := tracer.Start(context.WithValue(ctx, idsKey{}, ids{traceID, id}), name, options...)
	return trace.ContextWithSpan(ctx, span), span
}

// IDGenerator makes random ids, but for the spans that Start starts.
type IDGenerator struct{}

// NewIDs returns the ids of a span that begins a trace.
func (IDGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if wanted, ok := ctx.Value(idsKey{}).(ids); ok {
		return wanted.trace, wanted.span
	}
	var id trace.TraceID
	_, _ = rand.Read(id[:])
	return id, IDGenerator{}.NewSpanID(ctx, id)
}

// NewSpanID returns the id of any other span.
func (IDGenerator) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if wanted, ok := ctx.Value(idsKey{}).(ids); ok {
		return wanted.span
	}
	var id trace.SpanID
	_, _ = rand.Read(id[:])
	return id
}

// Extension is the attribute of an event that says within which span it was sent
// (CloudEvents, Distributed Tracing extension). Unlike the header of a request, which a
// Broker replaces by that of its own, it comes through any Broker, and belongs to the event
// also where that is a reply.
const Extension = keptn.TraceparentExtension

// Text is the context's span as a traceparent (W3C Trace Context); empty if there is none.
func Text(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get(Extension)
}

// Parse is the span that a traceparent names; not valid if it is none.
func Parse(ctx context.Context, traceparent string) trace.SpanContext {
	outside := trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(outside, propagation.MapCarrier{Extension: traceparent}))
}
