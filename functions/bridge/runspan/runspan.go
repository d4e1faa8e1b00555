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

// Writer writes the span of each task's run, from the triggered event to the moment when Keptn
// no longer waits for the task. It is the root of all other spans of the task, which are
// below it before it is written.
type Writer struct {
	Tracer trace.Tracer
	// Ended is told of each run that is over, with its span in the context.
	Ended func(ctx context.Context, task keptn.Task, result keptn.RunResult)
	Now   func() time.Time
	// Page is the address of Keptn's web page, which shows a context below /trace; empty if it is
	// not known.
	Page string

	written memory.Memory[bool]
	// sequences are when those were triggered that have not finished.
	sequences memory.Memory[time.Time]
}

// maxStatusBytes bounds the status of a span, which is a sentence.
const maxStatusBytes = 1 << 10

// Write writes a task's span once, whoever finds that its run is over. Message is what the
// user is told; its first sentence explains a result that is none to wish for.
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
	// What is done for the event at hand is a part of it, and so ends before.
	trace.SpanFromContext(ctx).End()
	ended := w.Now()
	began := task.TriggeredAt
	if began.IsZero() || !began.Before(ended) {
		began = ended.Add(-time.Nanosecond) // Jaeger takes one of no time at all for a mistake
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

// IsSequence says whether events of a type tell that a sequence was triggered, or has
// finished (sh.keptn.event.<stage>.<sequence>.<phase>).
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

// See writes the span of a sequence that has finished, if it has seen that it was triggered.
// It is the parent of nothing, since nobody else knows of the sequence.
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
		return // then Keptn knows nothing of it either
	}
	keptnContext, _ := seen.Extensions()[keptn.ContextExtension].(string)
	_, span := telemetry.Start(ctx, w.Tracer, telemetry.TraceID(keptnContext), telemetry.SpanID(id), "RUN "+name,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(*triggeredAt), trace.WithAttributes(
			attribute.String("cicd.pipeline.name", name), attribute.String("cicd.pipeline.run.id", keptnContext), attribute.String("keptn.context", keptnContext),
			attribute.String("keptn.project", data.Project), attribute.String("keptn.stage", data.Stage), attribute.String("keptn.service", data.Service)))
	result := keptn.RunSuccess
	switch {
	case data.Status == "aborted": // whose result is a pass (recording 40-abort-after-started)
		result = keptn.RunCancellation
	case data.Result == string(keptn.ResultFail):
		result = keptn.RunFailure
		telemetry.Fail(span, string(result), cmp.Or(sentenceOf(data.Message), "a task failed"))
	}
	span.SetAttributes(attribute.String("cicd.pipeline.result", string(result)))
	span.End(trace.WithTimestamp(seen.Time()))
	*triggeredAt = time.Time{} // it is published once more to a bridge that was restarted
}

// sentenceOf is the first line of a message.
func sentenceOf(message string) string {
	sentence, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return strings.ToValidUTF8(sentence[:min(len(sentence), maxStatusBytes)], "")
}
