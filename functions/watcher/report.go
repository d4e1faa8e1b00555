package watcher

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/redact"
	"github.com/job-executor/job-executor/functions/watcher/result"
)

// report is the part of a finished event about one Job.
type report struct {
	task string
	// failure is why the task did not succeed; empty if it did.
	failure string
	// isErrored is true if the task could not be run, or its report cannot be used.
	isErrored bool
	runResult keptn.RunResult
	// began is when the attempt started that decides the Job.
	began time.Time
	// notes are further sentences for the user.
	notes    []string
	logs     []logged
	evidence evidence
	// result is the task's own report.
	result result.Result
	// redactor redacts texts about the Job.
	redactor *redact.Redactor
}

// reports collects the reports of ended Jobs. An unreadable part is mentioned in the report, and never delays a
// result.
func (w *Watcher) reports(ctx context.Context, ran []run.Ran) ([]report, error) {
	var found []evidence
	logs := 0
	searching, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	for _, ended := range ran {
		about, err := w.evidence(ctx, ended.Job)
		if err != nil {
			return nil, err
		}
		if run.PhaseOf(ended.Job) == run.Failed || trace.SpanFromContext(ctx).IsRecording() && run.StartedLate(ended.Job, about.pods) {
			w.search(searching, &about)
		}
		found = append(found, about)
		for index := range about.pods {
			logs += len(about.logged(&about.pods[index]))
		}
	}
	ctx, span := w.Tracer.Start(ctx, "read logs")
	defer span.End()
	budget := w.budget(logs)
	var reports []report
	for _, about := range found {
		r, err := w.report(ctx, about, budget)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func (w *Watcher) report(ctx context.Context, found evidence, logs *budget) (report, error) {
	job := found.job
	failed := run.PhaseOf(job) == run.Failed
	attempt := result.Attempt(found.pods, !failed)
	r := report{
		task: job.Annotations[run.TaskNameAnnotation], evidence: found, began: startOf(job, attempt),
		result: result.Of(attempt),
	}
	if note := job.Annotations[run.SucceededAnnotation]; note != "" {
		r.notes = append(r.notes, note)
	}
	redactor := &redact.Redactor{}
	if started := firstStart(found.pods); !started.IsZero() && redact.UsesSecrets(job) {
		var err error
		if redactor, err = redact.New(ctx, w.Secrets, job, started); err != nil {
			return report{}, err
		}
	}
	if why := redactor.Withheld; why != "" {
		r.withhold(why)
	} else {
		r.result.Redact(redactor)
		if err := w.readLogs(ctx, &r, redactor, logs); err != nil {
			return report{}, err
		}
	}
	r.redactor = redactor
	r.result.Message = excerpt.Shorten(r.result.Message, "the pod's status", maxSentenceBytes)
	if failed {
		r.runResult, r.isErrored = found.runResult(), true
		r.failure = found.failure()
		if len(r.result.Mistakes) > 0 {
			r.notes = append(r.notes, cannotBeUsed(r.result.Mistakes))
		}
	} else {
		r.runResult, r.isErrored, r.failure = judge(r.result)
	}
	r.failure = excerpt.Shorten(redactor.Text(r.failure), "the Job's events", maxSentenceBytes)
	if redacted := redactor.Found(); len(redacted) > 0 {
		r.notes = append(r.notes, fmt.Sprintf("*** stands for the value of %s.", strings.Join(redacted, ", ")))
	}
	if len(found.pods) == 0 && run.PhaseOf(job) == run.Succeeded {
		r.logs = append(r.logs, logged{title: "The log is missing: the pod of Job " + job.Name + " is gone"})
	}
	return r, nil
}

// judge returns what the report of a succeeded Job means for its run.
func judge(reported result.Result) (runResult keptn.RunResult, isErrored bool, failure string) {
	switch {
	case len(reported.Mistakes) > 0:
		return keptn.RunError, true, cannotBeUsed(reported.Mistakes)
	case reported.Status == keptn.StatusErrored:
		return keptn.RunError, true, "The task reported the status errored."
	case reported.Result == keptn.ResultFail:
		return keptn.RunFailure, false, "The task reported the result fail."
	default:
		return keptn.RunSuccess, false, ""
	}
}

func cannotBeUsed(mistakes []string) string {
	return "The report in /dev/termination-log is invalid: " + strings.Join(mistakes, "; ")
}

// withhold removes everything that the task wrote, but not its status and result.
func (r *report) withhold(why string) {
	r.result.Message, r.result.Labels, r.result.Data = "", nil, nil
	if len(r.result.Mistakes) > 0 {
		r.result.Mistakes = []string{"see the pod's status"} // they quote it
	}
	for _, pod := range r.evidence.pods {
		for index := range pod.Status.ContainerStatuses {
			if terminated := pod.Status.ContainerStatuses[index].State.Terminated; terminated != nil {
				terminated.Message = ""
			}
		}
	}
	r.notes = append(r.notes, fmt.Sprintf("The log and the reported data are withheld: %s. To read the log: %s", why, r.evidence.kubectl()))
}

// kubectl returns the command that prints the logs of a Job.
func (e evidence) kubectl() string {
	return fmt.Sprintf("kubectl logs --namespace %s --selector %s=%s --container %s --tail -1", e.job.Namespace, batchv1.JobNameLabel, e.job.Name, run.TaskContainer)
}

// firstStart returns when the first of the task's containers started; zero if none did.
func firstStart(pods []corev1.Pod) time.Time {
	var first time.Time
	for index := range pods {
		for _, status := range pods[index].Status.ContainerStatuses {
			if began := run.StartedAt(status.State); status.Name == run.TaskContainer && !began.IsZero() && (first.IsZero() || began.Before(first)) {
				first = began
			}
		}
	}
	return first
}

// startOf returns when the attempt started that decides a Job; the attempt is nil if its pod is
// gone.
func startOf(job *batchv1.Job, attempt *corev1.Pod) time.Time {
	if attempt != nil {
		if began := run.StartedAt(corev1.ContainerState{Terminated: result.Terminated(attempt)}); !began.IsZero() {
			return began
		}
	}
	if job.Status.StartTime != nil {
		return job.Status.StartTime.Time
	}
	return job.CreationTimestamp.Time
}

// evidence reads the pods of a Job.
func (w *Watcher) evidence(ctx context.Context, job *batchv1.Job) (evidence, error) {
	pods, err := w.Pods.List(ctx, job)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		w.Log.WarnContext(ctx, "listing the pods of a Job failed", "job", job.Name, "namespace", job.Namespace, "error", err)
		pods, err = nil, nil
	}
	return evidence{job: job, pods: pods}, err
}

// searchTimeout bounds the time for all events of a run. The API server reads a whole namespace for each search: with
// thousands of events and many runs at once, searches without a limit left no time for results.
const searchTimeout = 5 * time.Second

// search adds Kubernetes' events about a Job and its pods, as far as the time allows: those of the last pod first.
func (w *Watcher) search(ctx context.Context, about *evidence) {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	uids := []types.UID{about.job.UID}
	for index := range about.pods {
		uids = append(uids, about.pods[index].UID)
	}
	for _, uid := range slices.Backward(uids) {
		events, err := w.Pods.Events(ctx, about.job.Namespace, uid)
		if err != nil {
			w.Log.WarnContext(ctx, "reading the events of a Job failed", "job", about.job.Name, "namespace", about.job.Namespace, "error", err)
			about.isIncomplete = true
			return
		}
		about.events = append(events, about.events...)
	}
}
