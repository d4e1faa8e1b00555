package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
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

// JobSpanID returns the id of the span of a Job, derived from the Job's name: containers need the id before the
// Job exists.
func JobSpanID(namespace, name string) trace.SpanID { return SpanID(namespace, name) }

// WithParent returns a context whose spans are children of a span that may not exist yet.
func WithParent(ctx context.Context, traceID trace.TraceID, id trace.SpanID) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: id, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// WithRun returns a context whose spans are children of the task's span. The bridge writes that span when Keptn
// no longer waits for the task.
func WithRun(ctx context.Context, task keptn.Task) context.Context {
	return WithParent(ctx, TraceID(task.Context), SpanID(task.TriggeredID))
}

// SequenceAttributes returns the attributes of a span about the sequence of a task (OpenTelemetry semantic
// conventions, CICD, and Keptn's terms). A pipeline is a stage of a project, and a run of the pipeline is a sequence.
func SequenceAttributes(task keptn.Task) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.CICDPipelineName(task.Pipeline()), semconv.CICDPipelineRunID(task.Context), attribute.String("keptn.context", task.Context),
		attribute.String("keptn.project", task.Project), attribute.String("keptn.stage", task.Stage), attribute.String("keptn.service", task.Service),
	}
	if task.URL != "" {
		attributes = append(attributes, semconv.CICDPipelineRunURLFull(task.URL))
	}
	return attributes
}

// TaskAttributes returns the attributes of a span about a task, besides those of its sequence (OpenTelemetry
// semantic conventions, CICD and VCS).
func TaskAttributes(task keptn.Task) []attribute.KeyValue {
	attributes := append(SequenceAttributes(task), semconv.CICDPipelineTaskName(task.Name), semconv.CICDPipelineTaskRunID(task.TriggeredID),
		attribute.String("keptn.task", task.Name))
	if kind, ok := taskTypes()[task.Name]; ok {
		attributes = append(attributes, kind)
	}
	if task.URL != "" {
		attributes = append(attributes, semconv.CICDPipelineTaskRunURLFull(task.URL))
	}
	if task.GitCommitID != "" {
		attributes = append(attributes, semconv.VCSRefHeadRevision(task.GitCommitID))
	}
	return attributes
}

// taskTypes returns the types of tasks with the names that Keptn's own documentation uses.
func taskTypes() map[string]attribute.KeyValue {
	return map[string]attribute.KeyValue{
		"build": semconv.CICDPipelineTaskTypeBuild, "test": semconv.CICDPipelineTaskTypeTest,
		"deployment": semconv.CICDPipelineTaskTypeDeploy, "release": semconv.CICDPipelineTaskTypeDeploy, "rollback": semconv.CICDPipelineTaskTypeDeploy,
	}
}

// Destination is where an event goes (messaging.destination.name).
type Destination string

// The destinations of events.
const (
	ToBroker Destination = "broker"
	ToKeptn  Destination = "keptn"
)

// ShortType returns an event type without the prefix that all types of its kind share. So names of spans begin
// with the distinguishing part.
func ShortType(eventType string) string {
	for _, prefix := range []string{"sh.keptn.event.", "sh.keptn.", "io.github.job-executor."} {
		if short, ok := strings.CutPrefix(eventType, prefix); ok {
			return short
		}
	}
	return eventType
}

// StartSend starts the span of sending an event about a task. Its parent is the context's span, or else the
// task's span.
func StartSend(ctx context.Context, tracer trace.Tracer, task keptn.Task, outgoing event.Event, to Destination) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = WithRun(ctx, task)
	}
	return tracer.Start(ctx, "send "+ShortType(outgoing.Type()), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(TaskAttributes(task)...),
		trace.WithAttributes(EventAttributes(outgoing)...), trace.WithAttributes(
			semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend, semconv.MessagingDestinationName(string(to))))
}

// StartProcess starts the span of processing an event, perhaps the first one of this process.
func StartProcess(ctx context.Context, tracer trace.Tracer, received event.Event, isFirst bool) (context.Context, trace.Span) {
	return tracer.Start(ctx, "process "+ShortType(received.Type()),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(EventAttributes(received)...), trace.WithAttributes(
			semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess, semconv.MessagingDestinationName(string(ToBroker)),
			semconv.FaaSColdstart(isFirst)))
}

// Reply adds the task's span to a reply. It is for replies to untraced events that continue a trace.
func Reply(ctx context.Context, tracer trace.Tracer, task keptn.Task, reply *event.Event) *event.Event {
	ctx, span := StartSend(ctx, tracer, task, *reply, ToBroker)
	defer span.End()
	reply.SetExtension(SentWithinExtension, Text(ctx))
	return reply
}

// MessagingSystem is the messaging system of all events: any Broker of Knative, or Keptn.
const MessagingSystem = "cloudevents"

// EventAttributes returns the attributes of a span about an event (OpenTelemetry semantic conventions,
// CloudEvents and messaging).
func EventAttributes(of event.Event) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String(MessagingSystem), semconv.MessagingMessageID(of.ID()),
		semconv.CloudEventsEventID(of.ID()), semconv.CloudEventsEventSource(of.Source()), semconv.CloudEventsEventType(of.Type()),
		semconv.CloudEventsEventSpecVersion(of.SpecVersion()),
	}
}

// Fail marks a span as failed, with the type of the error and a sentence.
func Fail(span trace.Span, errorType, sentence string) {
	span.SetStatus(codes.Error, sentence)
	span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
}

// Note adds an error to a span that does not mark it as failed, because the operation is retried.
func Note(span trace.Span, what string, err error) {
	span.AddEvent(what, trace.WithAttributes(semconv.ExceptionMessage(err.Error())))
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

// SentWithinExtension is the attribute of an event with the sender's span, in the form of a traceparent (W3C Trace
// Context). Brokers pass it on, also in replies, but may replace a traceparent by their own: the HTTP header always,
// and the attribute with channels in NATS JetStream.
const SentWithinExtension = "sentwithin"

// SentExtension is the attribute of an event with the time when it was sent in a trace (RFC 3339 with
// nanoseconds). A function that starts from zero shows the wait.
const SentExtension = "sentat"

// Sent returns a copy of an event with the context's span and the current time, and nothing of an earlier sender. Without a
// span it has neither. The traceparent is for other receivers (CloudEvents Distributed Tracing extension).
func Sent(ctx context.Context, outgoing event.Event) event.Event {
	outgoing = outgoing.Clone()
	for _, name := range []string{SentWithinExtension, keptn.TraceparentExtension, SentExtension} {
		outgoing.SetExtension(name, nil)
	}
	if within := Text(ctx); within != "" {
		outgoing.SetExtension(SentWithinExtension, within)
		outgoing.SetExtension(keptn.TraceparentExtension, within)
		outgoing.SetExtension(SentExtension, time.Now().UTC().Format(time.RFC3339Nano))
	}
	return outgoing
}

// SentWithin returns the span in which an event was sent, invalid if unknown.
func SentWithin(ctx context.Context, received event.Event) trace.SpanContext {
	within, _ := received.Extensions()[SentWithinExtension].(string)
	traceparent, _ := received.Extensions()[keptn.TraceparentExtension].(string) // of an older function, or of others
	return Parse(ctx, cmp.Or(within, traceparent))
}

// Text returns the context's span as a traceparent (W3C Trace Context); empty if there is none.
func Text(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get(keptn.TraceparentExtension)
}

// Parse returns the span of a traceparent. It is invalid if the traceparent is.
func Parse(ctx context.Context, traceparent string) trace.SpanContext {
	outside := trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(outside, propagation.MapCarrier{keptn.TraceparentExtension: traceparent}))
}
