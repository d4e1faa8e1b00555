package watcher

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/result"
)

// evidence is what Kubernetes says about a Job that failed or cannot start.
type evidence struct {
	job    *batchv1.Job
	pods   []corev1.Pod
	events []corev1.Event
	// isIncomplete is true if some events could not be read.
	isIncomplete bool
}

// Reasons of Kubernetes, in the words of its API.
const (
	podDeadlineExceeded = "DeadlineExceeded" // a pod at its activeDeadlineSeconds
	podEvicted          = "Evicted"
	podNodeLost         = "NodeLost"
	containerOOMKilled  = "OOMKilled"
	eventFailedCreate   = "FailedCreate"
	eventUnschedulable  = "FailedScheduling"
	eventFailedMount    = "FailedMount"
	eventFailed         = "Failed" // an image that can't be pulled, a container that can't be made
	imagePullBackOff    = "ImagePullBackOff"
	errImagePull        = "ErrImagePull"
	invalidImageName    = "InvalidImageName"
)

const podDeleted = "The pod was deleted before the task ended, by hand or with its node or namespace. Run the sequence again."

// failure returns a sentence about why a Job failed, from the most specific fact, and the remedy.
func (e evidence) failure() string {
	if why := e.job.Annotations[run.FailureAnnotation]; why != "" {
		return why
	}
	for index := range slices.Backward(e.pods) { // the last attempt's reason is the Job's
		pod := &e.pods[index]
		for _, why := range []func(*corev1.Pod) string{e.ended, disrupted, e.overdue, e.unable, e.fetched, e.others} {
			if sentence := why(pod); sentence != "" {
				return sentence
			}
		}
	}
	if sentence := e.refused(); sentence != "" {
		return sentence
	}
	reason, message := run.FailureOf(e.job)
	switch {
	case reason == batchv1.JobReasonDeadlineExceeded:
		if found := e.couldNotStart(nil, eventFailedMount, eventUnschedulable, eventFailed); found != "" {
			return found
		}
		return e.tooLong()
	case reason == batchv1.JobReasonBackoffLimitExceeded && len(e.pods) == 0:
		return podDeleted
	}
	return fmt.Sprintf("job %s failed. Reason: %s, Message: %s", e.job.Name, reason, message)
}

// runResult returns the result of a failed Job: its container failed, its time was over, or it could not run.
func (e evidence) runResult() keptn.RunResult {
	reason, _ := run.FailureOf(e.job)
	isOver := reason == batchv1.JobReasonDeadlineExceeded
	for index := range e.pods {
		isOver = isOver || e.pods[index].Status.Reason == podDeadlineExceeded
	}
	switch {
	case e.job.Annotations[run.FailureAnnotation] != "":
		return keptn.RunError
	case isOver:
		return keptn.RunTimeout
	case len(e.pods) > 0 && e.ended(&e.pods[len(e.pods)-1]) != "":
		return keptn.RunFailure
	default:
		return keptn.RunError
	}
}

// unstarted returns why the last attempt of a Job has not started, empty if it has. The fetcher has the task's
// own time, so a task that fetches files has started.
func (e evidence) unstarted(now time.Time) string {
	since := e.job.CreationTimestamp.Time
	if e.job.Status.StartTime != nil {
		since = e.job.Status.StartTime.Time
	}
	var pod *corev1.Pod
	if last := len(e.pods) - 1; last >= 0 {
		pod = &e.pods[last]
		if last > 0 {
			since = pod.CreationTimestamp.Time
		}
		if slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(status corev1.ContainerStatus) bool {
			switch status.Name {
			case run.TaskContainer:
				return status.State.Running != nil || status.State.Terminated != nil
			case run.FetcherContainer:
				return status.State.Running != nil
			default:
				return false // a sidecar
			}
		}) {
			return ""
		}
	}
	sentence := fmt.Sprintf("The pod did not start within %s. ", now.Sub(since).Round(time.Second))
	if pod != nil {
		if why := e.unable(pod); why != "" {
			return sentence + why
		}
		if why := unscheduled(pod); why != "" {
			return sentence + why
		}
	}
	if why := e.refused(); why != "" {
		return sentence + why
	}
	if message := e.latest(eventFailedMount, eventUnschedulable, eventFailed); message != "" {
		return sentence + message
	}
	if e.isIncomplete {
		sentence += fmt.Sprintf("Its events could not be read; they may say why: kubectl describe --namespace %s job/%s", e.job.Namespace, e.job.Name)
		if pod != nil {
			sentence += " pod/" + pod.Name
		}
		return sentence
	}
	return sentence + "Kubernetes reports no reason."
}

// ended returns how the task's own container failed. The exit code of another container, such as a sidecar, says
// nothing about the task.
func (e evidence) ended(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		terminated := status.State.Terminated
		if status.Name != run.TaskContainer || terminated == nil || terminated.ExitCode == 0 {
			continue
		}
		if pod.Status.Reason == podDeadlineExceeded || pod.Status.Reason == podEvicted {
			return "" // it was stopped, which is what its exit code tells
		}
		if disruption(pod) != nil {
			return ""
		}
		if terminated.Reason == containerOOMKilled {
			return fmt.Sprintf("The container ran out of memory (%s%s). Raise resources.limits.memory.", containerOOMKilled, e.memoryLimit())
		}
		return fmt.Sprintf("Container %s failed (%s).", status.Name, reasonOf(terminated))
	}
	return ""
}

func (e evidence) memoryLimit() string {
	for _, container := range e.job.Spec.Template.Spec.Containers {
		if limit, ok := container.Resources.Limits[corev1.ResourceMemory]; ok && container.Name == run.TaskContainer {
			return ", limit " + limit.String()
		}
	}
	return ""
}

// disruption returns the condition of a pod that Kubernetes ended, nil if it did not.
func disruption(pod *corev1.Pod) *corev1.PodCondition {
	for index := range pod.Status.Conditions {
		if condition := &pod.Status.Conditions[index]; condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue {
			return condition
		}
	}
	return nil
}

// disrupted tells that Kubernetes ended the pod, or lost its node.
func disrupted(pod *corev1.Pod) string {
	condition := disruption(pod)
	switch {
	case pod.Status.Reason == podEvicted:
		return fmt.Sprintf("The pod was evicted (%s).", pod.Status.Message) + evictionAdvice(pod.Status.Message)
	case pod.Status.Reason == podNodeLost,
		condition != nil && (condition.Reason == "DeletionByTaintManager" || condition.Reason == "DeletionByPodGC"):
		return fmt.Sprintf("Node %s was lost. Run the sequence again.", pod.Spec.NodeName)
	case condition != nil:
		return fmt.Sprintf("Kubernetes stopped the pod (%s: %s). Run the sequence again.", condition.Reason, condition.Message)
	case pod.DeletionTimestamp != nil && stillRuns(pod):
		return podDeleted
	default:
		return ""
	}
}

// stillRuns reports whether the task ran according to the pod's last status.
func stillRuns(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.Name == run.TaskContainer && status.State.Running != nil
	})
}

func evictionAdvice(message string) string {
	switch {
	case !strings.Contains(message, "EmptyDir"):
		return ""
	case strings.Contains(message, `"tmp"`):
		return " The volume at /tmp is full. Raise JOB_TMP_SIZE of the installation."
	default:
		return " The volume at /keptn is full. Raise volumeSize, or JOB_VOLUME_SIZE of the installation."
	}
}

// overdue returns a sentence if the pod was stopped at its time limit.
func (e evidence) overdue(pod *corev1.Pod) string {
	if pod.Status.Reason != podDeadlineExceeded {
		return ""
	}
	// The kubelet replaces the reason of a waiting container at the deadline.
	if !slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.State.Running != nil || status.State.Terminated != nil && !status.State.Terminated.StartedAt.IsZero()
	}) {
		if found := e.couldNotStart(pod, eventFailed, eventFailedMount); found != "" {
			return found
		}
	}
	return e.tooLong()
}

// couldNotStart returns why a task did not start in time, from events; empty if there is no such event. The pod
// is nil if it is gone.
func (e evidence) couldNotStart(pod *corev1.Pod, reasons ...string) string {
	found := e.latest(reasons...)
	if found == "" {
		return ""
	}
	if answer := e.latestContaining(eventFailed, "pull image"); answer != "" {
		if pod == nil {
			pod = &corev1.Pod{}
		}
		return "The task could not start. " + e.unpulled(pod, run.TaskContainer, answer)
	}
	return "The task could not start. " + found
}

// tooLong returns a sentence with the exceeded time limit and the setting it comes from.
func (e evidence) tooLong() string {
	seconds := int64(0)
	if limit := e.job.Spec.Template.Spec.ActiveDeadlineSeconds; limit != nil {
		seconds = *limit
	}
	source := e.job.Annotations[run.DeadlineAnnotation]
	if source == "" {
		source = "maxPollDuration"
	}
	return fmt.Sprintf("The task did not finish within %d seconds (%s).", seconds, source)
}

// unable returns why a container cannot start. For an image that cannot be pulled, it names the image and
// quotes the registry.
func (e evidence) unable(pod *corev1.Pod) string {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		waiting := status.State.Waiting
		switch {
		case waiting == nil:
		case slices.Contains([]string{imagePullBackOff, errImagePull, invalidImageName}, waiting.Reason):
			return e.unpulled(pod, status.Name, waiting.Message)
		case waiting.Message != "":
			return fmt.Sprintf("Container %s cannot start (%s: %s).", status.Name, waiting.Reason, waiting.Message)
		}
	}
	return ""
}

// unpulled names the image of a container, and the registry's answer.
func (e evidence) unpulled(pod *corev1.Pod, container, message string) string {
	image := "The image"
	for _, spec := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers, e.job.Spec.Template.Spec.InitContainers, e.job.Spec.Template.Spec.Containers) {
		if spec.Name == container && spec.Image != "" {
			image = "Image " + spec.Image
		}
	}
	if answer := e.latestContaining(eventFailed, "image"); answer != "" {
		message = answer // "Back-off pulling image" does not say why
	}
	return fmt.Sprintf("%s of container %s cannot be pulled: %s", image, container, message)
}

// latestContaining returns the message of the newest event of a reason whose text contains a word. Messages
// that only count errors say less.
func (e evidence) latestContaining(reason, word string) string {
	for _, found := range slices.Backward(e.events) {
		if found.Reason == reason && strings.Contains(found.Message, word) && !strings.HasPrefix(found.Message, "Error: ") {
			return found.Message
		}
	}
	return ""
}

// unscheduled tells why no node takes the pod.
func unscheduled(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Message != "" {
			return fmt.Sprintf("No node can run the pod (%s: %s).", condition.Reason, condition.Message)
		}
	}
	return ""
}

// fetched tells that the files could not be fetched.
func (e evidence) fetched(pod *corev1.Pod) string {
	for _, status := range pod.Status.InitContainerStatuses {
		if terminated := status.State.Terminated; status.Name == run.FetcherContainer && terminated != nil && terminated.ExitCode != 0 {
			return "The files of the task could not be fetched."
		}
	}
	return ""
}

// others describes other containers that failed, and the pod's own message.
func (e evidence) others(pod *corev1.Pod) string {
	if pod.Status.Phase == corev1.PodFailed {
		for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if terminated := status.State.Terminated; terminated != nil && terminated.ExitCode != 0 {
				return fmt.Sprintf("Container %s failed (%s).", status.Name, reasonOf(terminated))
			}
		}
	}
	if pod.Status.Reason != "" {
		return fmt.Sprintf("Pod %s failed (%s: %s).", pod.Name, pod.Status.Reason, pod.Status.Message)
	}
	return ""
}

// refused tells that the pod was not admitted: by a quota, by pod security, or by a
// webhook.
func (e evidence) refused() string {
	if len(e.pods) > 0 {
		return ""
	}
	if found := e.latest(eventFailedCreate); found != "" {
		return "The pod was rejected (" + found + ")."
	}
	return ""
}

// latest returns the newest event of the first reason with an event. It prefers "Failed to pull image …" to the shorter
// "Error: ErrImagePull", which the kubelet reports for the same failure.
func (e evidence) latest(reasons ...string) string {
	for _, reason := range reasons {
		if message := e.latestContaining(reason, ""); message != "" {
			return reason + ": " + message
		}
		for _, found := range slices.Backward(e.events) {
			if found.Reason == reason {
				return found.Reason + ": " + found.Message
			}
		}
	}
	return ""
}

func reasonOf(terminated *corev1.ContainerStateTerminated) string {
	reason := "Reason: " + terminated.Reason
	if terminated.Message != "" && !result.IsObject(terminated.Message) {
		reason += ", Message: " + terminated.Message
	}
	return fmt.Sprintf("%s, ExitCode: %d", reason, terminated.ExitCode)
}
