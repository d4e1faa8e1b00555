package runspan

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Writer writes the spans of ended sequences, tasks and Jobs, each once. Other functions write their children
// earlier.
type Writer struct {
	Tracer trace.Tracer
	// JobTracer writes the spans of Jobs.
	JobTracer trace.Tracer
	// Keptn knows the sequences of tasks. Without Keptn, every task is a root.
	Keptn Sequences
	// Ended is called once for each ended run, with its span in the context.
	Ended func(ctx context.Context, task keptn.Task, result keptn.RunResult)
	Now   func() time.Time

	written memory.Memory[written]
	known   sequences
	// repositories are by project. Only Run uses them.
	repositories memory.Recent[repository]
}

// written is what has been written about a task.
type written struct{ task, jobs bool }

// maxStatusBytes bounds the status of a span.
const maxStatusBytes = 1 << 10

// Write writes a task's span once, whoever finds that its run is over. The message, up to its first empty line,
// explains a failure. The span is a child of the sequence's, or a root if the sequence is unknown.
func (w *Writer) Write(ctx context.Context, task keptn.Task, result keptn.RunResult, message string) {
	before, release, err := w.written.Hold(ctx, task.TriggeredID)
	if err != nil {
		return // the process ends
	}
	defer release()
	if before.task {
		return
	}
	before.task = true
	// The span of the current event is a child, so it ends first.
	trace.SpanFromContext(ctx).End()
	sequence := w.sequenceOf(ctx, task)
	ended := w.Now()
	options := []trace.SpanStartOption{trace.WithTimestamp(beginning(task.TriggeredAt, ended)), trace.WithAttributes(telemetry.TaskAttributes(task)...)}
	if cause := telemetry.Parse(ctx, task.Traceparent); cause.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: cause}))
	}
	name := task.Name
	if sequence.ID == "" {
		name = titleOf(task, task.Name, result)
		options = append(options, trace.WithNewRoot())
	} else {
		ctx = telemetry.WithParent(ctx, telemetry.TraceID(task.Context), telemetry.SpanID(sequence.ID))
	}
	ctx, span := telemetry.Start(ctx, w.Tracer, telemetry.TraceID(task.Context), telemetry.SpanID(task.TriggeredID), name, options...)
	w.Ended(ctx, task, result)
	if result != "" {
		span.SetAttributes(semconv.CICDPipelineTaskRunResultKey.String(string(result)))
	}
	fail(span, result, message)
	span.End(trace.WithTimestamp(ended))
	w.known.addChild(sequence, child{task: task, ended: ended, result: result, message: message})
}

// titleOf returns the name of a root: the title of the trace in viewers, which do not show results (OpenTelemetry
// semantic conventions, pipeline run: the action and the pipeline).
func titleOf(task keptn.Task, what string, result keptn.RunResult) string {
	title := "RUN " + task.Pipeline() + "/" + task.Service + " " + what
	if result == keptn.RunCancellation {
		title += " (aborted)"
	}
	return title
}

// beginning returns the beginning of a span. An unknown or later beginning is moved slightly before the end,
// because Jaeger treats an empty span as a mistake.
func beginning(began, ended time.Time) time.Time {
	if began.IsZero() || !began.Before(ended) {
		return ended.Add(-time.Nanosecond)
	}
	return began
}

// fail marks the span of a failed run with its message, without the logs that follow the first empty line.
func fail(span trace.Span, result keptn.RunResult, message string) {
	if !result.IsFailed() {
		return
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(message), "\n\n")
	telemetry.Fail(span, string(result), strings.ToValidUTF8(reason[:min(len(reason), maxStatusBytes)], ""))
}

// approximate marks spans whose times are Kubernetes' whole seconds.
func approximate() attribute.KeyValue { return attribute.Bool("job_executor.time.approximate", true) }
