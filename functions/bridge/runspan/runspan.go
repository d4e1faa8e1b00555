package runspan

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Writer writes the RUN span of each task, from the triggered event until Keptn no longer waits for the task.
// It is the root of the task's other spans, which are written earlier.
type Writer struct {
	Tracer trace.Tracer
	// Ended is called once for each ended run, with its span in the context.
	Ended func(ctx context.Context, task keptn.Task, result keptn.RunResult)
	Now   func() time.Time
	// Page is the address of Keptn's web page, which shows a context below /trace; empty if unknown.
	Page string

	written memory.Memory[bool]
	// sequences has the times at which unfinished sequences were triggered.
	sequences memory.Memory[time.Time]
}

// maxStatusBytes bounds the status of a span.
const maxStatusBytes = 1 << 10

// Write writes a task's span once, whoever finds that its run is over. The first sentence of the message
// explains a failure.
func (w *Writer) Write(ctx context.Context, task keptn.Task, result keptn.RunResult, message string) {
	isWritten, release, err := w.written.Hold(ctx, task.TriggeredID)
	if err != nil {
		return // the process ends
	}
	defer release()
	if *isWritten {
		return
	}
	*isWritten = true
	// The span of the current event is a child, so it ends first.
	trace.SpanFromContext(ctx).End()
	ended := w.Now()
	began := task.TriggeredAt
	if began.IsZero() || !began.Before(ended) {
		began = ended.Add(-time.Nanosecond) // Jaeger treats an empty span as a mistake
	}
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began), trace.WithAttributes(telemetry.TaskAttributes(task)...),
	}
	if cause := telemetry.Parse(ctx, task.Traceparent); cause.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: cause}))
	}
	ctx, span := telemetry.Start(ctx, w.Tracer, telemetry.TraceID(task.Context), telemetry.SpanID(task.TriggeredID), "RUN "+task.Name, options...)
	w.Ended(ctx, task, result)
	if w.Page != "" {
		span.SetAttributes(attribute.String("cicd.pipeline.task.run.url.full", w.Page+"/trace/"+url.PathEscape(task.Context)))
	}
	if result != "" {
		span.SetAttributes(attribute.String("cicd.pipeline.task.run.result", string(result)))
	}
	if result.IsFailed() {
		telemetry.Fail(span, string(result), sentenceOf(message))
	}
	span.End(trace.WithTimestamp(ended))
}

// IsSequence reports whether a type belongs to the triggered or finished event of a sequence
// (sh.keptn.event.<stage>.<sequence>.<phase>).
func IsSequence(eventType string) bool {
	name, phase := sequenceOf(eventType)
	return name != "" && (phase == keptn.Triggered || phase == keptn.Finished)
}

func sequenceOf(eventType string) (name string, phase keptn.Phase) {
	const parts = 6
	tokens := strings.Split(eventType, ".")
	if len(tokens) != parts || !strings.HasPrefix(eventType, "sh.keptn.event.") {
		return "", ""
	}
	return tokens[3] + "." + tokens[4], keptn.Phase(tokens[5])
}

// See writes the span of a finished sequence, if it has seen the triggered event. The span has no children,
// because nobody else knows the sequence.
func (w *Writer) See(ctx context.Context, seen event.Event) {
	name, phase := sequenceOf(seen.Type())
	id := seen.ID()
	if phase == keptn.Finished {
		id, _ = seen.Extensions()[keptn.TriggeredIDExtension].(string)
	}
	triggeredAt, release, err := w.sequences.Hold(ctx, id)
	if err != nil {
		return // the process ends
	}
	defer release()
	if phase == keptn.Triggered {
		*triggeredAt = seen.Time()
	}
	if phase != keptn.Finished || triggeredAt.IsZero() || !seen.Time().After(*triggeredAt) {
		return
	}
	var data struct{ Project, Stage, Service, Message, Result, Status string }
	if err := seen.DataAs(&data); err != nil {
		return // Keptn cannot read it either
	}
	keptnContext, _ := seen.Extensions()[keptn.ContextExtension].(string)
	_, span := telemetry.Start(ctx, w.Tracer, telemetry.TraceID(keptnContext), telemetry.SpanID(id), "RUN "+name,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(*triggeredAt), trace.WithAttributes(
			attribute.String("cicd.pipeline.name", name), attribute.String("cicd.pipeline.run.id", keptnContext), attribute.String("keptn.context", keptnContext),
			attribute.String("keptn.project", data.Project), attribute.String("keptn.stage", data.Stage), attribute.String("keptn.service", data.Service)))
	result := keptn.RunSuccess
	switch {
	case data.Status == "aborted": // with the result pass (recording 40-abort-after-started)
		result = keptn.RunCancellation
	case data.Result == string(keptn.ResultFail):
		result = keptn.RunFailure
		telemetry.Fail(span, string(result), cmp.Or(sentenceOf(data.Message), "a task failed"))
	}
	span.SetAttributes(attribute.String("cicd.pipeline.result", string(result)))
	span.End(trace.WithTimestamp(seen.Time()))
	*triggeredAt = time.Time{} // a restarted bridge receives it again
}

// sentenceOf returns the first line of a message.
func sentenceOf(message string) string {
	sentence, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return strings.ToValidUTF8(sentence[:min(len(sentence), maxStatusBytes)], "")
}
