package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobphase"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/jobspan"
	"github.com/job-executor/job-executor/functions/watcher/mask"
)

// Runs are the Jobs of runs, as run.Store has them.
type Runs interface {
	List(ctx context.Context, runID string) ([]batchv1.Job, error)
	Resume(ctx context.Context, job *batchv1.Job) error
	Delete(ctx context.Context, job *batchv1.Job) error
	GiveUp(ctx context.Context, job *batchv1.Job, why string) error
}

// Pods are the pods of a Job and what they printed, as run.Pods has them.
type Pods interface {
	List(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error)
	Log(ctx context.Context, pod *corev1.Pod, container string, through func(io.Writer) io.WriteCloser) (string, error)
	Events(ctx context.Context, namespace string, of types.UID) ([]corev1.Event, error)
}

// Watcher turns what happened to a Job into what its run needs next.
type Watcher struct {
	Runs Runs
	Pods Pods
	// Secrets are hidden in what Keptn is told.
	Secrets mask.Reader
	Tracer  trace.Tracer
	// Memory bounds how many runs' logs are in memory at a time; each run takes one of
	// its units. Nil is no bound.
	Memory *semaphore.Weighted
	Now    func() time.Time
	Log    *slog.Logger
}

// Handle answers one event: the completion of a Job, the bridge's question for a
// run's result, or the cancellation of a run, whose Jobs it deletes as far as they
// have not ended. Delivering the same event again has no further effect but the same
// reply.
func (watcher *Watcher) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	eventType := received.Type()
	if eventType != run.CancelledType && eventType != run.AwaitedType {
		eventType = run.CompletedType
	}
	notice, err := run.NoticeOf(received, eventType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	switch eventType {
	case run.CancelledType:
		jobs, err := watcher.Runs.List(ctx, notice.RunID)
		watcher.writeCancelled(ctx, jobs)
		return nil, errors.Join(err, watcher.delete(ctx, jobs)) // those that can be
	case run.AwaitedType:
		notice.Begun = true // its started event was sent
	default:
		notice.Begun = notice.Deleted
	}
	return watcher.next(ctx, notice)
}

// writeCancelled writes the spans of Jobs that run when their run is cancelled: what their
// containers have written is below them.
func (watcher *Watcher) writeCancelled(ctx context.Context, jobs []batchv1.Job) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	for index := range jobs {
		job := &jobs[index]
		task, err := taskOf([]byte(job.Annotations[run.TaskAnnotation]))
		if err != nil || run.PhaseOf(job) != run.Running {
			continue
		}
		pods, err := watcher.Pods.List(ctx, job)
		if err != nil {
			watcher.Log.WarnContext(ctx, "the pods of a Job that is cancelled can't be listed", "job", job.Name, "error", err)
		}
		jobspan.Write(ctx, watcher.Tracer, jobspan.Job{Task: task, Job: job, Pods: pods, Result: keptn.RunCancellation}, watcher.Now())
	}
}

// delete deletes the Jobs that have not ended, from the last: a Job that waits must
// not start since the one before it ended.
func (watcher *Watcher) delete(ctx context.Context, jobs []batchv1.Job) error {
	for index := len(jobs) - 1; index >= 0; index-- {
		if !run.IsActive(&jobs[index]) {
			continue
		}
		if err := watcher.Runs.Delete(ctx, &jobs[index]); err != nil {
			return err
		}
		watcher.Log.InfoContext(ctx, "a Job that nobody needs any more is deleted", "run", jobs[index].Labels[run.EventIDLabel], "job", jobs[index].Name)
	}
	return nil
}

// next does what a run needs: it starts the next Job, and replies with the run's
// finished event once it has ended, whatever brought it here.
func (watcher *Watcher) next(ctx context.Context, asked run.Notice) (*event.Event, error) {
	jobs, err := watcher.Runs.List(ctx, asked.RunID)
	refused, isRefused := errors.AsType[*run.RefusedError](err)
	if err != nil && !isRefused {
		return nil, err
	}
	log := watcher.Log.With("run", asked.RunID)
	step := run.Next(jobs, asked.Begun)
	// What can't be listed is not there any more if jobsource has seen it deleted, or
	// nothing was heard of it for too long.
	if refused != nil && !asked.Deleted && asked.Reason == "" && (len(jobs) == 0 || step.IsMissing(refused.Namespaces)) {
		return nil, err // it may be there, and run
	}
	switch {
	case len(jobs) == 0 && asked.Begun:
		return watcher.giveUp(ctx, asked)
	case len(step.Resume) > 0:
		return nil, watcher.resume(ctx, log, step.Resume)
	case step.Ended:
		return watcher.finish(ctx, asked, jobs, step)
	}
	for index := range jobs {
		if job := &jobs[index]; asked.Unstarted && job.Name == asked.Job && run.PhaseOf(job) == run.Running {
			return watcher.unstarted(ctx, asked, job)
		}
	}
	log.InfoContext(ctx, "the run goes on", "jobs", len(jobs))
	return nil, nil
}

// resume starts the Jobs whose turn it is.
func (watcher *Watcher) resume(ctx context.Context, log *slog.Logger, jobs []*batchv1.Job) error {
	var failures []error
	for _, job := range jobs {
		log.InfoContext(ctx, "starting the run's next Job", "next", job.Name)
		failures = append(failures, watcher.Runs.Resume(ctx, job))
	}
	return errors.Join(failures...)
}

// unstarted gives a Job up of which nothing has started in time, and so ends its run.
func (watcher *Watcher) unstarted(ctx context.Context, asked run.Notice, job *batchv1.Job) (*event.Event, error) {
	found, err := watcher.evidence(ctx, job, func([]corev1.Pod) bool { return true })
	if err != nil {
		return nil, err
	}
	why := found.unstarted(watcher.Now())
	if why == "" {
		return nil, nil
	}
	why = plain(excerpt.Shorten(why, "the Job's events", maxSentenceBytes))
	watcher.Log.WarnContext(ctx, "a Job could not start and is given up", "run", asked.RunID, "job", job.Name, "reason", why)
	if err := watcher.Runs.GiveUp(ctx, job, why); err != nil {
		return nil, err
	}
	asked.Unstarted = false
	return watcher.next(ctx, asked)
}

// giveUp answers for a run of which no Job exists.
func (watcher *Watcher) giveUp(ctx context.Context, asked run.Notice) (*event.Event, error) {
	task, err := taskOf(asked.Task)
	if err != nil {
		return nil, function.Permanent(err)
	}
	why := "The Jobs of this task were deleted before it was finished, and with them its result. Run the sequence again."
	if asked.Reason != "" {
		why = asked.Reason
	}
	watcher.Log.WarnContext(ctx, "a run of which there is no Job is ended as errored", "run", asked.RunID, "reason", why)
	answer := task.Finished(watcher.Now(), keptn.Errored(why))
	if asked.Silent {
		answer = task.LogError(watcher.Now(), why)
	}
	answer = keptn.WithRunResult(answer, keptn.RunError)
	return &answer, nil
}

func taskOf(content []byte) (keptn.Task, error) {
	var task keptn.Task
	if err := json.Unmarshal(content, &task); err != nil {
		return keptn.Task{}, fmt.Errorf("reading the task of a run: %w", err)
	}
	return task, nil
}

// finish answers for a run that has ended.
func (watcher *Watcher) finish(ctx context.Context, asked run.Notice, jobs []batchv1.Job, step run.Step) (*event.Event, error) {
	task, err := taskOf([]byte(jobs[0].Annotations[run.TaskAnnotation]))
	if err != nil {
		return nil, function.Permanent(err)
	}
	if watcher.Memory != nil {
		if err := watcher.Memory.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting for memory for the logs of run %s: %w", asked.RunID, err)
		}
		defer watcher.Memory.Release(1)
	}
	var reports, silent []report // silent ones are those beside others that report
	add := func(planned run.Planned, made report) {
		if step.IsSilent(planned) {
			silent = append(silent, made)
		} else {
			reports = append(reports, made)
		}
	}
	var begun, ended time.Time
	var phases []jobphase.Phases
	for _, ran := range step.Ran {
		made, err := watcher.report(ctx, ran.Job)
		if err != nil {
			return nil, err
		}
		phases = append(phases, jobspan.Write(ctx, watcher.Tracer, jobspan.Job{
			Task: task, Job: ran.Job, Pods: made.evidence.pods, Events: made.evidence.events, Result: made.runResult, Failure: made.failure,
		}, watcher.Now()))
		add(ran.Planned, made)
		if end := run.FinishedAt(ran.Job); end.After(ended) {
			ended = end // those of a parallel action end in any order
		}
		if begun.IsZero() && !step.IsSilent(ran.Planned) {
			begun = startOf(ran.Job)
		}
	}
	for _, planned := range step.Missing {
		add(planned, report{task: planned.Task, failure: missing(planned, asked.Reason), runResult: keptn.RunError})
	}
	if err := watcher.delete(ctx, step.Unneeded); err != nil {
		return nil, err
	}
	failed := hasFailed(reports)
	if run.IsSilent(&jobs[0]) {
		if !failed {
			return nil, nil
		}
		return new(keptn.WithRunResult(jobphase.Add(task.LogError(watcher.Now(), message(reports)), phases), runResultOf(reports))), nil
	}
	outcome := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: message(reports)}
	if failed {
		outcome = keptn.Errored(outcome.Message)
	} else if task.Name == "test" {
		// Keptn's lighthouse evaluates this span of time.
		outcome.Properties = map[string]any{
			"start": begun.UTC().Format(time.RFC3339),
			"end":   ended.UTC().Format(time.RFC3339),
		}
	}
	for _, report := range reports {
		report.result.Merge(&outcome, task.Name)
	}
	finished := keptn.WithRunResult(jobphase.Add(task.Finished(watcher.Now(), outcome), phases), runResultOf(reports))
	if hasFailed(silent) {
		// Of those beside others that report, Keptn's log is told.
		finished = keptn.WithLog(finished, sentences(silent))
	}
	if len(step.Missing) == 0 && !ended.IsZero() {
		// It tells the bridge whether one before it may have reported this.
		finished.SetExtension(keptn.EndedExtension, ended.UTC().Format(time.RFC3339Nano))
	}
	return &finished, nil
}

// runResultOf is how a run ended: as the first task that failed.
func runResultOf(reports []report) keptn.RunResult {
	for _, report := range reports {
		if report.failure != "" {
			return report.runResult
		}
	}
	return keptn.RunSuccess
}

func hasFailed(reports []report) bool {
	return slices.ContainsFunc(reports, func(report report) bool { return report.failure != "" })
}

func missing(planned run.Planned, reason string) string {
	if reason != "" {
		return reason
	}
	return fmt.Sprintf("its job %s in namespace %s was deleted before the task had ended; run the sequence again", planned.Name, planned.Namespace)
}

func startOf(job *batchv1.Job) time.Time {
	if job.Status.StartTime != nil {
		return job.Status.StartTime.Time
	}
	return job.CreationTimestamp.Time
}
