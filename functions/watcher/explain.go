package watcher

import (
	"context"
	"log/slog"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/result"
	"github.com/job-executor/job-executor/functions/watcher/timeline"
)

// Explain returns how a Job went so far, for a person who may read its namespace: from the same facts as the
// finished event, but without logs, and not redacted. The failure of a Job that has not started is why
// it waits. Explain changes nothing. Its errors are those of the cluster.
func Explain(ctx context.Context, pods Pods, job *batchv1.Job, now time.Time) (protocol.Job, error) {
	task, err := taskOf([]byte(job.Annotations[run.TaskAnnotation]))
	if err != nil {
		return protocol.Job{}, err
	}
	asker := &Watcher{Pods: pods, Log: slog.New(slog.DiscardHandler)}
	found, err := asker.evidence(ctx, job)
	if err != nil {
		return protocol.Job{}, err
	}
	asker.search(ctx, &found)
	about := timeline.Evidence{Task: task, Job: job, Pods: found.pods, Events: found.events, Ended: found.ended}
	switch run.PhaseOf(job) {
	case run.Failed:
		about.Result, about.Failure = found.runResult(), found.failure()
	case run.Succeeded:
		reported := result.Of(result.Attempt(found.pods, true))
		about.Result, _, about.Failure = judge(reported)
		if about.Failure != "" && reported.Message != "" {
			about.Failure += "\n" + reported.Message
		}
	case run.Running:
		about.Failure = found.unstarted(now)
	case run.Waiting:
	}
	return timeline.Of(about, now), nil
}

// OutcomeOf returns how an ended Job counts for Keptn, from its pods, the oldest first. It has no message.
func OutcomeOf(job *batchv1.Job, pods []corev1.Pod) keptn.Outcome {
	succeeded := run.PhaseOf(job) == run.Succeeded
	reported := result.Of(result.Attempt(pods, succeeded))
	outcome := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}
	if _, isErrored, _ := judge(reported); isErrored || !succeeded {
		return errored(outcome)
	}
	if reported.Result != "" {
		outcome.Result = reported.Result
	}
	return outcome
}
