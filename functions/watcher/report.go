package watcher

import (
	"context"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// report is what a person is told of one Job.
type report struct {
	task    string
	failure string // empty if it succeeded
	logs    string
	pods    []corev1.Pod
}

// report collects the logs of all of a Job's pods, and why it failed.
func (watcher *Watcher) report(ctx context.Context, job *batchv1.Job) (report, error) {
	pods, err := watcher.Pods.List(ctx, job)
	if err != nil {
		return report{}, err
	}
	failed := run.PhaseOf(job) == run.Failed
	result := report{task: job.Annotations[run.TaskNameAnnotation], pods: pods}
	if failed {
		result.failure = failureOf(job, pods)
	}
	var logs strings.Builder
	for index := range pods {
		pod := &pods[index]
		containers := pod.Status.ContainerStatuses
		if failed {
			// The init container's log is of interest only if it may be the cause.
			containers = append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), containers...)
		}
		for _, status := range containers {
			text, err := watcher.Pods.Log(ctx, pod, status.Name)
			if err != nil {
				return report{}, err
			}
			writeLog(&logs, pod, status, text)
		}
	}
	result.logs = logs.String()
	return result, nil
}

func writeLog(logs *strings.Builder, pod *corev1.Pod, status corev1.ContainerStatus, text string) {
	terminated := status.State.Terminated
	bad := terminated != nil && terminated.ExitCode != 0
	if text == "" && !bad {
		return
	}
	fmt.Fprintf(logs, "Container %s of pod %s", status.Name, pod.Name)
	if bad {
		logs.WriteString(" terminated with an error (" + reasonOf(terminated) + ")")
	}
	logs.WriteString(":\n" + text + "\n")
}

func reasonOf(terminated *corev1.ContainerStateTerminated) string {
	reason := "Reason: " + terminated.Reason
	if terminated.Message != "" {
		reason += ", Message: " + terminated.Message
	}
	return fmt.Sprintf("%s, ExitCode: %d", reason, terminated.ExitCode)
}

// podDeadlineExceeded is what the kubelet gives a pod that it stopped at its
// activeDeadlineSeconds.
const podDeadlineExceeded = "DeadlineExceeded"

// failureOf says in a sentence why a Job failed, from the most specific thing
// that is known: a time limit, a container that can't start or ended badly, and
// else the Job's own condition.
func failureOf(job *batchv1.Job, pods []corev1.Pod) string {
	for index := range pods {
		pod := &pods[index]
		statuses := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
		for _, status := range statuses {
			if waiting := status.State.Waiting; waiting != nil && waiting.Message != "" {
				return fmt.Sprintf("container %s could not start (%s: %s)", status.Name, waiting.Reason, waiting.Message)
			}
		}
		if pod.Status.Reason == podDeadlineExceeded {
			return fmt.Sprintf("it did not finish within %d seconds (maxPollDuration)", *job.Spec.Template.Spec.ActiveDeadlineSeconds)
		}
		for _, status := range statuses {
			terminated := status.State.Terminated
			switch {
			case terminated == nil || terminated.ExitCode == 0:
			case status.Name == run.FetcherContainer:
				return "its files could not be fetched"
			default:
				return fmt.Sprintf("container %s ended (%s)", status.Name, reasonOf(terminated))
			}
		}
		if pod.Status.Reason != "" {
			return fmt.Sprintf("pod %s failed (%s: %s)", pod.Name, pod.Status.Reason, pod.Status.Message)
		}
	}
	reason, message := run.FailureOf(job)
	return fmt.Sprintf("job %s failed. Reason: %s, Message: %s", job.Name, reason, message)
}

// message is the finished event's message, in the job-executor-service's words.
func message(reports []report) string {
	var text strings.Builder
	for _, report := range reports {
		if report.failure == "" {
			fmt.Fprintf(&text, "Task '%s' finished successfully!\n\nLogs:\n%s\n\n", report.task, report.logs)
		} else {
			fmt.Fprintf(&text, "Task '%s' failed: %s\n\nLogs: \n%s\n\n", report.task, report.failure, report.logs)
		}
	}
	excerpt := run.Excerpt{Limit: maxMessageBytes, Whole: "kubectl logs of the run's pods"}
	_, _ = excerpt.Write([]byte(text.String()))
	return excerpt.String()
}

// maxMessageBytes is about what Keptn takes. Where it takes less, the bridge cuts
// further.
const maxMessageBytes = 900 << 10
