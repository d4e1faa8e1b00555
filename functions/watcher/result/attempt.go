package result

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// Attempt returns the pod that decides a Job, given its pods from oldest to newest: the last one
// that succeeded if the Job did, or else the last one. What earlier attempts reported decides
// nothing. It returns nil if the pod does not exist any more.
func Attempt(pods []corev1.Pod, succeeded bool) *corev1.Pod {
	for index := range slices.Backward(pods) {
		if !succeeded || Succeeded(&pods[index]) {
			return &pods[index]
		}
	}
	return nil
}

// Succeeded reports whether the task's container in a pod ended with exit code 0.
func Succeeded(pod *corev1.Pod) bool {
	terminated := Terminated(pod)
	return terminated != nil && terminated.ExitCode == 0
}

// Terminated returns how the task's container in a pod ended, nil if it did not.
func Terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == run.TaskContainer {
			return status.State.Terminated
		}
	}
	return nil
}

const (
	// maxMessageBytes is how much of a termination message the kubelet keeps: its end
	// (Kubernetes, kubelet/container.MaxContainerTerminationMessageLength is the file's limit).
	maxMessageBytes = 4096
	// maxPodMessageBytes is the kubelet's limit for all containers of a pod together. It keeps the beginning of
	// each container's share (kubelet/status, normalizeStatus).
	maxPodMessageBytes = 12 << 10
)

// limit returns the length from which on a container's termination message may be truncated.
func limit(pod *corev1.Pod) int {
	containers := len(pod.Spec.InitContainers) + len(pod.Spec.Containers) + len(pod.Spec.EphemeralContainers)
	if containers == 0 {
		return maxMessageBytes
	}
	return min(maxMessageBytes, maxPodMessageBytes/containers)
}
