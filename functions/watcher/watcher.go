package watcher

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Runs are the Jobs of runs, as run.Store has them.
type Runs interface {
	List(ctx context.Context, runID string) ([]batchv1.Job, error)
	Resume(ctx context.Context, job *batchv1.Job) error
	Delete(ctx context.Context, job *batchv1.Job) error
}

// Pods are the pods of a Job and what they printed, as run.Pods has them.
type Pods interface {
	List(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error)
	Log(ctx context.Context, pod *corev1.Pod, container string) (string, error)
}

// Watcher turns the completion of a Job into what its run needs next.
type Watcher struct {
	Runs  Runs
	Pods  Pods
	Trace Tracer
	Now   func() time.Time
	Log   *slog.Logger
}

// Handle answers one event: the completion of a Job, or the cancellation of a
// run, whose Jobs it deletes as far as they have not ended.
func (watcher *Watcher) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	if received.Type() == run.CancelledType {
		return nil, watcher.cancel(ctx, received)
	}
	return watcher.complete(ctx, received)
}

func (watcher *Watcher) cancel(ctx context.Context, cancelled event.Event) error {
	runID, err := run.CancellationOf(cancelled)
	if err != nil {
		return function.Permanent(err)
	}
	jobs, err := watcher.Runs.List(ctx, runID)
	if err != nil {
		return err
	}
	// From the last: a Job that waits must not start since the one before it ended.
	for index := len(jobs) - 1; index >= 0; index-- {
		if !run.IsActive(&jobs[index]) {
			continue
		}
		if err := watcher.Runs.Delete(ctx, &jobs[index]); err != nil {
			return err
		}
		watcher.Log.InfoContext(ctx, "a Job of a cancelled run is deleted", "run", runID, "job", jobs[index].Name)
	}
	return nil
}

// complete answers a completion event. It replies with the run's finished event
// once the last Job succeeded or one failed; before that it starts the next Job
// and replies with nothing. Delivering the same event again has no further
// effect but the same reply.
func (watcher *Watcher) complete(ctx context.Context, completed event.Event) (*event.Event, error) {
	completion, err := run.CompletionOf(completed)
	if err != nil {
		return nil, function.Permanent(err)
	}
	jobs, err := watcher.Runs.List(ctx, completion.RunID)
	if err != nil {
		return nil, err
	}
	log := watcher.Log.With("run", completion.RunID, "job", completion.Job)
	step := run.Next(jobs)
	if step.Resume != nil {
		log.InfoContext(ctx, "starting the run's next Job", "next", step.Resume.Name)
		return nil, watcher.Runs.Resume(ctx, step.Resume)
	}
	if !step.Ended {
		log.InfoContext(ctx, "the run goes on, or its Jobs are gone", "jobs", len(jobs))
		return nil, nil
	}
	last := &jobs[len(jobs)-1-len(step.Unneeded)]
	if last.Name != completion.Job {
		log.InfoContext(ctx, "an earlier Job of a run that has ended since", "last", last.Name)
		return nil, nil
	}
	return watcher.finish(ctx, jobs[:len(jobs)-len(step.Unneeded)], step)
}

func (watcher *Watcher) finish(ctx context.Context, ran []batchv1.Job, step run.Step) (*event.Event, error) {
	var task keptn.Task
	if err := json.Unmarshal([]byte(ran[0].Annotations[run.TaskAnnotation]), &task); err != nil {
		return nil, function.Permanent(fmt.Errorf("reading annotation %s of Job %s: %w", run.TaskAnnotation, ran[0].Name, err))
	}
	var reports []report
	for index := range ran {
		report, err := watcher.report(ctx, &ran[index])
		if err != nil {
			return nil, err
		}
		watcher.Trace.Job(ctx, &ran[index], report.pods)
		reports = append(reports, report)
	}
	for index := range step.Unneeded {
		if err := watcher.Runs.Delete(ctx, &step.Unneeded[index]); err != nil {
			return nil, err
		}
	}
	if ran[0].Annotations[run.SilentAnnotation] == "true" {
		if step.Failed == nil {
			return nil, nil
		}
		return new(task.LogError(watcher.Now(), message(reports))), nil
	}
	outcome := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: message(reports)}
	if step.Failed != nil {
		outcome = keptn.Errored(outcome.Message)
	} else if task.Name == "test" {
		// Keptn's lighthouse evaluates this span of time.
		outcome.Properties = map[string]any{
			"start": startOf(&ran[0]).UTC().Format(time.RFC3339),
			"end":   run.FinishedAt(&ran[len(ran)-1]).UTC().Format(time.RFC3339),
		}
	}
	finished := task.Finished(watcher.Now(), outcome)
	return &finished, nil
}

func startOf(job *batchv1.Job) time.Time {
	if job.Status.StartTime != nil {
		return job.Status.StartTime.Time
	}
	return job.CreationTimestamp.Time
}
