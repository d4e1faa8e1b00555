package watcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/redact"
)

// logged is the log of one container.
type logged struct {
	title, text, whole string
}

// budget is the remaining time and size for the logs of a run. All logs share it, so that neither a hanging log
// nor many attempts hold the run's result back.
type budget struct {
	until time.Time
	// logs is how many are still to be read.
	logs int
	// bytes is the share of each log in the message, with its title, as JSON.
	bytes int
	// excerpt is how many bytes of each log are kept in memory.
	excerpt int
}

func (w *Watcher) budget(logs int) *budget {
	share := (maxMessageBytes - maxSentencesBytes) / max(logs, 1)
	return &budget{until: w.Now().Add(w.LogTimeout), logs: logs, bytes: share, excerpt: min(share, w.MaxLogBytes)}
}

// next returns how long the next log may take: an equal share of the remaining time.
func (b *budget) next(now time.Time) time.Duration {
	share := b.until.Sub(now) / time.Duration(max(b.logs, 1))
	b.logs--
	return max(share, 0)
}

// logged returns the containers of a pod whose logs a person may need. Init containers matter
// only if they may be the cause of a failure.
func (e evidence) logged(pod *corev1.Pod) []corev1.ContainerStatus {
	var statuses []corev1.ContainerStatus
	if run.PhaseOf(e.job) == run.Failed {
		for _, status := range pod.Status.InitContainerStatuses {
			if terminated := status.State.Terminated; terminated == nil || terminated.ExitCode != 0 {
				statuses = append(statuses, status)
			}
		}
	}
	return append(statuses, pod.Status.ContainerStatuses...)
}

// readLogs adds the logs of a Job's pods to its report.
func (w *Watcher) readLogs(ctx context.Context, r *report, redactor *redact.Redactor, logs *budget) error {
	for index := range r.evidence.pods {
		pod := &r.evidence.pods[index]
		for _, status := range r.evidence.logged(pod) {
			limit := logs.next(w.Now())
			whole := fmt.Sprintf("kubectl logs --namespace %s %s --container %s", pod.Namespace, pod.Name, status.Name)
			text := excerpt.Writer{Limit: logs.excerpt, Whole: whole}
			err := w.readLog(ctx, limit, pod, status.Name, redactor, &text)
			if ctx.Err() != nil {
				return fmt.Errorf("read logs: %w", context.Cause(ctx))
			}
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("not complete within %s; all of it: %s", limit.Round(time.Millisecond), whole)
			}
			title, ok := titleOf(pod, status, text.String() != "", err)
			if !ok {
				continue
			}
			const maxTitleBytes = 512
			title = excerpt.Shorten(redactor.Text(title), "the pod's status", min(maxTitleBytes, logs.bytes/2))
			room := logs.bytes - 2*len(title)
			r.logs = append(r.logs, logged{title: title, text: excerpt.Shorten(text.String(), whole, room), whole: whole})
		}
	}
	return nil
}

func (w *Watcher) readLog(ctx context.Context, limit time.Duration, pod *corev1.Pod, container string, redactor *redact.Redactor, to *excerpt.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cleaned := redactor.Through(to)
	return errors.Join(w.Pods.Log(ctx, pod, container, cleaned), cleaned.Close())
}

// titleOf returns the line before a container's log; false if there is nothing to show.
func titleOf(pod *corev1.Pod, status corev1.ContainerStatus, printed bool, failure error) (string, bool) {
	terminated := status.State.Terminated
	bad := terminated != nil && terminated.ExitCode != 0
	if run.StartedAt(status.State).IsZero() && !bad {
		failure = nil // a container that never ran has no log
	}
	if !printed && !bad && failure == nil {
		return "", false
	}
	title := fmt.Sprintf("Container %s of pod %s", status.Name, pod.Name)
	if bad {
		title += " terminated with an error (" + reasonOf(terminated) + ")"
	}
	if failure != nil {
		title += " has a log that could not be read (" + readable(failure) + ")"
	}
	return title, true
}

// readable returns the last part of an error: what Kubernetes said.
func readable(err error) string {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return status.Status().Message
	}
	return err.Error()
}
