package watcher

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/result"
)

// settleSidecars marks failed Jobs as succeeded whose task ended with exit code 0: Kubernetes
// fails a pod if any of its containers fails, or still runs at the deadline, such as a service
// mesh's proxy.
func (w *Watcher) settleSidecars(ctx context.Context, jobs []batchv1.Job) error {
	for index := range jobs {
		job := &jobs[index]
		if run.PhaseOf(job) != run.Failed || run.IsGivenUp(job) {
			continue
		}
		pods, err := w.Pods.List(ctx, job)
		if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			return err
		}
		attempt := result.Attempt(pods, false)
		if attempt == nil || !result.Succeeded(attempt) {
			continue
		}
		why := sidecarNote(attempt)
		w.Log.WarnContext(ctx, "Job failed although its task succeeded: counting it as succeeded", "job", job.Name, "reason", why)
		if err := w.Runs.MarkSucceeded(ctx, job, why); err != nil {
			return err
		}
		if job.Annotations == nil {
			job.Annotations = map[string]string{}
		}
		job.Annotations[run.SucceededAnnotation] = why
	}
	return nil
}

// sidecarNote names the containers that failed a pod with a successful task, and the remedy.
func sidecarNote(pod *corev1.Pod) string {
	var names []string
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if terminated := status.State.Terminated; status.Name != run.TaskContainer && (terminated == nil || terminated.ExitCode != 0) {
			names = append(names, status.Name)
		}
	}
	what := "failed"
	if pod.Status.Reason == podDeadlineExceeded {
		what = "kept running until maxPollDuration"
	}
	return fmt.Sprintf("The task's container ended with exit code 0, but container %s of its pod %s. "+
		"Use native sidecars, or keep sidecars out of tasks, for Istio with labels: {sidecar.istio.io/inject: \"false\"}.", strings.Join(names, ", "), what)
}
