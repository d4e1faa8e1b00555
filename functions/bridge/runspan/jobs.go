package runspan

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Jobs writes the spans of a task's ended Jobs once: a span for each Job below the task's, with a child for each
// phase. Several attempts of a Job have spans around their phases.
func (w *Writer) Jobs(ctx context.Context, task keptn.Task, jobs []protocol.Job) {
	if len(jobs) == 0 {
		return
	}
	before, release, err := w.written.Hold(ctx, task.TriggeredID)
	if err != nil {
		return // the process ends
	}
	defer release()
	if before.jobs {
		return
	}
	before.jobs = true
	for _, job := range jobs {
		w.job(telemetry.WithRun(ctx, task), task, job)
	}
}

func (w *Writer) job(ctx context.Context, task keptn.Task, job protocol.Job) {
	writer := jobWriter{tracer: w.JobTracer, traceID: telemetry.TraceID(task.Context), job: job}
	attributes := append(telemetry.SequenceAttributes(task),
		semconv.CICDPipelineTaskName(job.Task), semconv.CICDPipelineTaskRunID(job.UID), semconv.CICDPipelineTaskRunResultKey.String(string(job.Result)),
		semconv.K8SJobName(job.Name), semconv.K8SJobUID(job.UID), semconv.K8SNamespaceName(job.Namespace),
		attribute.String("keptn.task", task.Name), attribute.String("job_executor.action", job.Action))
	if task.URL != "" {
		attributes = append(attributes, semconv.CICDPipelineTaskRunURLFull(task.URL))
	}
	ctx, end := writer.start(ctx, telemetry.JobSpanID(job.Namespace, job.Name), job.Task, job.Began, job.Ended, job.Failure, attributes...)
	defer end()
	attempts := 0
	for _, phase := range job.Phases {
		attempts = max(attempts, phase.Attempt)
	}
	for index := 0; index < len(job.Phases); index++ {
		phase := job.Phases[index]
		if phase.Attempt == 0 || attempts == 1 {
			writer.phase(ctx, index, phase)
			continue
		}
		last := index
		for last+1 < len(job.Phases) && job.Phases[last+1].Attempt == phase.Attempt {
			last++
		}
		writer.attempt(ctx, index, job.Phases[index:last+1])
		index = last
	}
}

// jobWriter writes the spans of one Job.
type jobWriter struct {
	tracer  trace.Tracer
	traceID trace.TraceID
	job     protocol.Job
}

// start starts a span, and returns a function that ends it.
func (w jobWriter) start(
	ctx context.Context, id trace.SpanID, name string, began, ended time.Time, failure string, attributes ...attribute.KeyValue,
) (context.Context, func()) {
	ctx, span := telemetry.Start(ctx, w.tracer, w.traceID, id, name, trace.WithTimestamp(began), trace.WithAttributes(approximate()), trace.WithAttributes(attributes...))
	if failure != "" {
		result := w.job.Result
		if !result.IsFailed() {
			result = keptn.RunFailure // an attempt before the successful one
		}
		fail(span, result, failure)
	}
	return ctx, func() {
		if !ended.After(began) {
			ended = began.Add(time.Nanosecond) // Jaeger treats an empty span as a mistake
		}
		span.End(trace.WithTimestamp(ended))
	}
}

// attempt writes the span of an attempt and the spans of its phases. First is the index of its first phase in the Job.
func (w jobWriter) attempt(ctx context.Context, first int, phases []protocol.Phase) {
	number, failure, pod := phases[0].Attempt, "", semconv.K8SPodName(phases[0].Pod)
	for _, phase := range phases {
		if phase.Failure != "" {
			failure = phase.Failure
		}
	}
	name := fmt.Sprintf("attempt %d", number)
	ctx, end := w.start(ctx, telemetry.SpanID(w.job.UID, name), name, phases[0].Began, phases[len(phases)-1].Ended, failure, pod)
	defer end()
	for offset, phase := range phases {
		w.phase(ctx, first+offset, phase)
	}
}

func (w jobWriter) phase(ctx context.Context, index int, phase protocol.Phase) {
	var attributes []attribute.KeyValue
	if phase.Pod != "" {
		attributes = append(attributes, semconv.K8SPodName(phase.Pod))
	}
	if phase.Node != "" { // otherwise no node could run the pod
		attributes = append(attributes, semconv.K8SNodeName(phase.Node))
	}
	if phase.ExitCode != nil {
		attributes = append(attributes, semconv.ProcessExitCode(int(*phase.ExitCode)))
	}
	ctx, end := w.start(ctx, telemetry.SpanID(w.job.UID, strconv.Itoa(index)), phase.Name, phase.Began, phase.Ended, phase.Failure, attributes...)
	for _, seen := range phase.Events {
		trace.SpanFromContext(ctx).AddEvent(seen.Reason, trace.WithTimestamp(seen.At), trace.WithAttributes(attribute.String("message", seen.Message)))
	}
	end()
}
