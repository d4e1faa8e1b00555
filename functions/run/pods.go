package run

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// lateAfter is when the start of a Job's pod is late.
const lateAfter = 10 * time.Second

// StartedLate reports whether a container of the Job started so late that somebody will ask why, or did not
// start at all.
func StartedLate(job *batchv1.Job, pods []corev1.Pod) bool {
	if job.Status.StartTime == nil {
		return true
	}
	for index := range pods {
		status := &pods[index].Status
		for _, container := range append(slices.Clone(status.InitContainerStatuses), status.ContainerStatuses...) {
			if began := StartedAt(container.State); !began.IsZero() && began.Sub(job.Status.StartTime.Time) < lateAfter {
				return false
			}
		}
	}
	return true
}

// StartedAt returns when a container started; zero if it did not.
func StartedAt(state corev1.ContainerState) time.Time {
	switch {
	case state.Terminated != nil && state.Terminated.StartedAt.Unix() > 0: // 0 if it could not start
		return state.Terminated.StartedAt.Time
	case state.Running != nil:
		return state.Running.StartedAt.Time
	default:
		return time.Time{}
	}
}
