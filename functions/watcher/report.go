package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/mask"
	"github.com/job-executor/job-executor/functions/watcher/result"
)

// report is what a person is told of one Job.
type report struct {
	task    string
	failure string // empty if it succeeded
	// runResult is how it ended.
	runResult keptn.RunResult
	logs      []logged
	evidence  evidence
	// result is what the task says of itself.
	result result.Result
}

// logged is what one container printed.
type logged struct {
	title, text, whole string
}

// report collects the logs of all of a Job's pods, and why it failed. What can't be
// read is named in it: a result is never held back for it.
func (watcher *Watcher) report(ctx context.Context, job *batchv1.Job) (report, error) {
	failed := run.PhaseOf(job) == run.Failed
	found, err := watcher.evidence(ctx, job, func(pods []corev1.Pod) bool {
		return failed || trace.SpanFromContext(ctx).IsRecording() && run.StartedLate(job, pods)
	})
	if err != nil {
		return report{}, err
	}
	ctx, span := watcher.Tracer.Start(ctx, "read logs")
	defer span.End()
	hide, err := mask.Of(ctx, watcher.Secrets, job)
	if err != nil {
		return report{}, err
	}
	made := report{task: job.Annotations[run.TaskNameAnnotation], runResult: keptn.RunSuccess, evidence: found, result: result.Of(found.pods)}
	made.result.Hide(hide)
	made.result.Message = plain(excerpt.Shorten(made.result.Message, "the pod's status", maxSentenceBytes))
	if failed {
		made.runResult = found.runResult()
		made.failure = plain(hide.Text(excerpt.Shorten(found.failure(), "the Job's events", maxSentenceBytes)))
	}
	for index := range found.pods {
		pod := &found.pods[index]
		containers := pod.Status.ContainerStatuses
		if failed {
			// The init container's log is of interest only if it may be the cause.
			containers = append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), containers...)
		}
		for _, status := range containers {
			text, err := watcher.Pods.Log(ctx, pod, status.Name, hide.Through)
			if ctx.Err() != nil {
				return report{}, fmt.Errorf("reading logs: %w", context.Cause(ctx))
			}
			if log, ok := logOf(pod, status, text, err); ok {
				log.title = hide.Text(log.title)
				made.logs = append(made.logs, log)
			}
		}
	}
	if len(found.pods) == 0 && run.PhaseOf(job) == run.Succeeded {
		made.logs = append(made.logs, logged{title: "The log is missing: the pod of job " + job.Name + " is gone"})
	}
	return made, nil
}

// evidence reads what Kubernetes tells of a Job. Events are looked at only where they
// matter, since the API server looks through all of a namespace for them; that they can't be
// read is no reason to say nothing.
func (watcher *Watcher) evidence(ctx context.Context, job *batchv1.Job, withEvents func(pods []corev1.Pod) bool) (evidence, error) {
	pods, err := watcher.Pods.List(ctx, job)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		watcher.Log.WarnContext(ctx, "the pods of a Job can't be listed", "job", job.Name, "namespace", job.Namespace, "error", err)
		pods, err = nil, nil
	}
	if err != nil {
		return evidence{}, err
	}
	found := evidence{job: job, pods: pods}
	if !withEvents(pods) {
		return found, nil
	}
	events, err := watcher.Pods.Events(ctx, job.Namespace, job.UID)
	if err == nil {
		found.events = events
		for index := range pods {
			var more []corev1.Event
			if more, err = watcher.Pods.Events(ctx, job.Namespace, pods[index].UID); err != nil {
				break
			}
			found.events = append(found.events, more...)
		}
	}
	if err != nil {
		watcher.Log.WarnContext(ctx, "the events of a Job can't be read", "job", job.Name, "namespace", job.Namespace, "error", err)
	}
	return found, nil
}

// logOf is what is told of one container, false if there is nothing to tell.
func logOf(pod *corev1.Pod, status corev1.ContainerStatus, text string, failure error) (logged, bool) {
	terminated := status.State.Terminated
	bad := terminated != nil && terminated.ExitCode != 0
	ran := terminated != nil && !terminated.StartedAt.IsZero() || status.State.Running != nil
	if !ran && !bad {
		failure = nil // it never ran, and so has none
	}
	if text == "" && !bad && failure == nil {
		return logged{}, false
	}
	title := fmt.Sprintf("Container %s of pod %s", status.Name, pod.Name)
	if bad {
		title += " terminated with an error (" + reasonOf(terminated) + ")"
	}
	if failure != nil {
		title += " has a log that could not be read (" + readable(failure) + ")"
	}
	return logged{
		title: plain(excerpt.Shorten(title, "the pod's status", maxSentenceBytes)), text: plain(text),
		whole: fmt.Sprintf("kubectl logs --namespace %s %s --container %s", pod.Namespace, pod.Name, status.Name),
	}, true
}

// readable is the last part of an error: what Kubernetes said.
func readable(err error) string {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return status.Status().Message
	}
	return err.Error()
}

const (
	// maxMessageBytes is about what Keptn takes, as JSON. Where it takes less, the bridge
	// cuts further.
	maxMessageBytes = 900 << 10
	// maxSentenceBytes bounds what is said of one task before the logs.
	maxSentenceBytes = 4 << 10
	// maxSentencesBytes bounds what is said of all of them.
	maxSentencesBytes = 64 << 10
)

// sentences are one for each task, in the job-executor-service's words. What failed comes
// first: it is what a person looks for, and the last thing to be cut.
func sentences(reports []report) string {
	var text strings.Builder
	for _, failed := range []bool{true, false} {
		for _, report := range reports {
			switch {
			case (report.failure != "") != failed:
			case failed:
				fmt.Fprintf(&text, "Task '%s' failed: %s\n", report.task, report.failure)
			default:
				fmt.Fprintf(&text, "Task '%s' finished successfully!\n", report.task)
			}
		}
	}
	for _, report := range reports {
		if report.result.Message == "" {
			continue
		}
		if len(reports) > 1 {
			fmt.Fprintf(&text, "Task '%s': ", report.task)
		}
		fmt.Fprintln(&text, report.result.Message)
	}
	return excerpt.Shorten(text.String(), "kubectl get jobs", maxSentencesBytes)
}

// message is the finished event's message: the sentences, then the logs, each cut for
// itself if there is no room.
func message(reports []report) string {
	var logs strings.Builder
	count := 0
	for _, report := range reports {
		count += len(report.logs)
	}
	text := sentences(reports)
	for _, report := range reports {
		if len(reports) > 1 && len(report.logs) > 0 {
			fmt.Fprintf(&logs, "Task '%s':\n", report.task)
		}
		for _, log := range report.logs {
			room := (maxMessageBytes-maxSentencesBytes)/count - 2*len(log.title)
			fmt.Fprintf(&logs, "%s:\n%s\n", log.title, excerpt.Shorten(log.text, log.whole, room))
		}
	}
	if logs.Len() == 0 {
		return text
	}
	return text + "\nLogs:\n" + logs.String()
}
