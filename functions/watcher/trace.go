package watcher

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// Tracer emits the spans of Jobs, which nobody else can: a Job's containers know
// nothing of the trace, and Kubernetes emits none.
type Tracer struct {
	Tracer     trace.Tracer
	Propagator propagation.TextMapPropagator
}

// Job emits the span of a Job, below the executor's, with its phases from the
// pods' own timestamps: pending, init, run. One that never ended as a Job ends now.
func (tracer Tracer) Job(ctx context.Context, job *batchv1.Job, pods []corev1.Pod, now time.Time) {
	ended := run.FinishedAt(job)
	if ended.IsZero() {
		ended = now
	}
	ctx = run.ContextOf(ctx, tracer.Propagator, job)
	ctx, span := tracer.Tracer.Start(ctx, "job "+job.Annotations[run.TaskNameAnnotation], trace.WithTimestamp(startOf(job)), trace.WithAttributes(
		attribute.String("k8s.job.name", job.Name), attribute.String("k8s.job.uid", string(job.UID)),
		attribute.String("k8s.namespace.name", job.Namespace)))
	if reason, message := run.FailureOf(job); reason != "" {
		span.SetStatus(codes.Error, reason+": "+message)
	}
	for index := range pods {
		tracer.pod(ctx, &pods[index])
	}
	span.End(trace.WithTimestamp(ended))
}

// pod emits what a pod did: it was pending up to its first container, which is
// told also where Kubernetes' whole seconds make it no time at all.
func (tracer Tracer) pod(ctx context.Context, pod *corev1.Pod) {
	name := attribute.String("k8s.pod.name", pod.Name)
	pending := true
	for _, group := range []struct {
		name     string
		statuses []corev1.ContainerStatus
	}{{"init", pod.Status.InitContainerStatuses}, {"run", pod.Status.ContainerStatuses}} {
		for _, status := range group.statuses {
			terminated := status.State.Terminated
			if terminated == nil || terminated.StartedAt.IsZero() {
				continue
			}
			if pending {
				tracer.phase(ctx, "pending", pod.CreationTimestamp.Time, terminated.StartedAt.Time, name)
				pending = false
			}
			tracer.phase(ctx, group.name, terminated.StartedAt.Time, terminated.FinishedAt.Time, name,
				attribute.String("k8s.container.name", status.Name), attribute.Int("container.exit.code", int(terminated.ExitCode)))
		}
	}
}

func (tracer Tracer) phase(ctx context.Context, name string, from, to time.Time, attributes ...attribute.KeyValue) {
	_, span := tracer.Tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(to))
}
