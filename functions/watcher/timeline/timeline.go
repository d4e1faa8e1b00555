package jobspan

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Job is an ended Job with everything that its spans need.
type Job struct {
	// Task is that of its run.
	Task keptn.Task
	Job  *batchv1.Job
	// Pods are its pods, the oldest first, and Events its Kubernetes events.
	Pods   []corev1.Pod
	Events []corev1.Event
	// Result is the result of the Job, and Failure the user's message about it, empty on success.
	Result  keptn.RunResult
	Failure string
}

// Write writes the span of a Job below its task's RUN span, and its phases below that: waiting for the Jobs
// before it, for its pod and for its files, and running. All times are Kubernetes' own, so repeated calls write
// the same spans. They are whole seconds, so no phase begins before the end of the one before it, nor the Job
// before its task was triggered. A Job that never ended ends now. It returns the duration of each phase.
func Write(ctx context.Context, tracer trace.Tracer, of Job, now time.Time) run.Phases {
	job := of.Job
	ended := run.FinishedAt(job)
	if ended.IsZero() {
		ended = now
	}
	clock := &clock{at: of.Task.TriggeredAt, end: ended}
	began := clock.reach(job.CreationTimestamp.Time)
	traceID := telemetry.TraceID(of.Task.Context)
	ctx, span := telemetry.Start(telemetry.WithRun(ctx, of.Task), tracer, traceID, telemetry.SpanID(string(job.UID)), job.Annotations[run.TaskNameAnnotation],
		trace.WithTimestamp(began), trace.WithAttributes(telemetry.TaskAttributes(of.Task)...), trace.WithAttributes(
			attribute.String("cicd.pipeline.action.name", job.Annotations[run.ActionNameAnnotation]), attribute.String("cicd.pipeline.task.run.result", string(of.Result)),
			attribute.String("k8s.job.name", job.Name), attribute.String("k8s.job.uid", string(job.UID)), attribute.String("k8s.namespace.name", job.Namespace)))
	written := written{ctx: ctx, tracer: tracer, traceID: traceID, of: of, took: run.Phases{}}
	phases := phasesOf(of)
	if waited := run.PlanOf(job)[0].Name != job.Name; waited && !phases.started.IsZero() {
		written.phase(run.PhaseQueued, began, clock.reach(phases.started), nil)
	}
	from := clock.reach(phases.started)
	written.phase(run.PhasePending, from, clock.reach(phases.firstContainer()), nil)
	for _, container := range []struct {
		name, part string
		of         times
	}{{"fetch files", telemetry.Fetch, phases.fetch}, {run.PhaseRun, telemetry.Run, phases.run}} {
		if !container.of.began.IsZero() {
			from := clock.reach(container.of.began)
			written.phase(container.name, from, clock.reach(container.of.ended), &part{container.part, container.of})
		}
	}
	if of.Failure != "" {
		mark(span, of)
	}
	span.End(trace.WithTimestamp(after(began, clock.end)))
	return written.took
}

// clock only goes forwards, up to the end.
type clock struct{ at, end time.Time }

// reach returns a time, or the latest earlier result if that is later.
func (c *clock) reach(at time.Time) time.Time {
	if at.After(c.end) {
		at = c.end
	}
	if at.After(c.at) {
		c.at = at
	}
	return c.at
}

// times are when the first of some containers began, and the last ended.
type times struct {
	began, ended time.Time
	// last is how the last container ended, nil if it has not, and its pod.
	last *corev1.ContainerStateTerminated
	pod  *corev1.Pod
}

func (t *times) add(pod *corev1.Pod, state corev1.ContainerState) {
	var began, ended time.Time
	switch {
	case state.Terminated != nil:
		began, ended = state.Terminated.StartedAt.Time, state.Terminated.FinishedAt.Time
	case state.Running != nil: // its run was cancelled
		began, ended = state.Running.StartedAt.Time, never()
	}
	if began.IsZero() {
		return
	}
	if t.began.IsZero() || began.Before(t.began) {
		t.began = began
	}
	if !ended.Before(t.ended) {
		t.ended, t.last, t.pod = ended, state.Terminated, pod
	}
}

// never is later than any other time.
func never() time.Time {
	const late = 1 << 40
	return time.Unix(late, 0)
}

type phases struct {
	started    time.Time
	fetch, run times
}

func phasesOf(of Job) phases {
	phases := phases{started: of.Job.CreationTimestamp.Time}
	if of.Job.Status.StartTime != nil {
		phases.started = of.Job.Status.StartTime.Time
	}
	for index := range of.Pods {
		pod := &of.Pods[index]
		for _, status := range pod.Status.InitContainerStatuses {
			phases.fetch.add(pod, status.State)
		}
		for _, status := range pod.Status.ContainerStatuses {
			phases.run.add(pod, status.State)
		}
	}
	return phases
}

// firstContainer returns when the first container started; zero if none did.
func (p phases) firstContainer() time.Time {
	first := never()
	for _, began := range []time.Time{p.fetch.began, p.run.began} {
		if !began.IsZero() && began.Before(first) {
			first = began
		}
	}
	return first
}

type part struct {
	name string
	times
}

// written is where phases go.
type written struct {
	ctx     context.Context
	tracer  trace.Tracer
	traceID trace.TraceID
	of      Job
	// took is how long the phases took that were written.
	took run.Phases
}

// phase writes the span of a phase. A part gives the span an id that others know.
func (w written) phase(name string, from, to time.Time, part *part) {
	job := w.of.Job
	w.took[name] = to.Sub(from)
	id := telemetry.SpanID(string(job.UID), name)
	if part != nil {
		id = telemetry.SpanID(job.Namespace, job.Name, part.name)
	}
	_, span := telemetry.Start(w.ctx, w.tracer, w.traceID, id, name, trace.WithTimestamp(from))
	switch {
	case part != nil:
		span.SetAttributes(attribute.String("k8s.pod.name", part.pod.Name), attribute.String("k8s.node.name", part.pod.Spec.NodeName))
		if part.last != nil {
			span.SetAttributes(attribute.Int("process.exit.code", int(part.last.ExitCode)))
		}
		if part.last != nil && part.last.ExitCode != 0 && w.of.Failure != "" {
			mark(span, w.of)
		}
	case name == run.PhasePending:
		for _, seen := range w.of.Events {
			at := seen.LastTimestamp.Time
			if at.IsZero() {
				at = seen.EventTime.Time
			}
			if at.Before(from) || at.After(to) {
				continue // such as that the container has started, or of another attempt
			}
			span.AddEvent(seen.Reason, trace.WithTimestamp(at), trace.WithAttributes(attribute.String("message", seen.Message)))
		}
	}
	span.End(trace.WithTimestamp(after(from, to)))
}

// after returns the end of a span, at least slightly after its beginning: Jaeger treats an empty span as a
// mistake.
func after(from, to time.Time) time.Time {
	if !to.After(from) {
		return from.Add(time.Nanosecond)
	}
	return to
}

// mark marks the span of a failure.
func mark(span trace.Span, of Job) {
	sentence, _, _ := strings.Cut(of.Failure, "\n")
	telemetry.Fail(span, string(of.Result), sentence)
}
