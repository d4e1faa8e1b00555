package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/functions/watcher/redact"
	"github.com/job-executor/job-executor/functions/watcher/timeline"
)

// Runs reads and changes the Jobs of runs, as store.Jobs does.
type Runs interface {
	List(ctx context.Context, runID string) ([]batchv1.Job, error)
	Resume(ctx context.Context, job *batchv1.Job) error
	Delete(ctx context.Context, job *batchv1.Job) error
	GiveUp(ctx context.Context, job *batchv1.Job, why string, at time.Time) error
	MarkSucceeded(ctx context.Context, job *batchv1.Job, why string) error
	MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error
}

// Pods reads the pods of a Job and their logs, as store.Pods does.
type Pods interface {
	List(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error)
	Log(ctx context.Context, pod *corev1.Pod, container string, to io.Writer) error
	Events(ctx context.Context, namespace string, of types.UID) ([]corev1.Event, error)
}

// Watcher advances a run after a Job has changed.
type Watcher struct {
	Runs Runs
	Pods Pods
	// Secrets are redacted in everything that Keptn gets.
	Secrets redact.Reader
	// Rules decide whether a Job may use its Secrets and account when its turn comes; nil allows all.
	Rules Rules
	// MaxLogBytes bounds the excerpt of one container's log.
	MaxLogBytes int
	// LogTimeout bounds the time for all logs of a run.
	LogTimeout time.Duration
	Tracer     trace.Tracer
	// Memory bounds how many Jobs are reported at a time; nil is unbounded. Its size is
	// maxReported.
	Memory *semaphore.Weighted
	// MinWeight is what a run with few Jobs takes of Memory.
	MinWeight int64
	Now       func() time.Time
	Log       *slog.Logger
}

// Rules decide about Jobs that wait for their turn, as Admission does.
type Rules interface {
	// Refuses returns why a Job may not start, empty if it may. The error is that the cluster
	// cannot be asked.
	Refuses(ctx context.Context, job *batchv1.Job) (why string, err error)
}

// maxReported is how many Jobs may be reported at a time; it is also the largest number of Jobs
// that a run has.
const maxReported = 100

// Handle answers one event: the completion of a Job, the bridge's question for a run's result, or
// the cancellation of a run. Delivering the same event again has no further effect and gives the
// same reply.
func (w *Watcher) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	eventType := received.Type()
	if eventType != protocol.CancelledType && eventType != protocol.AwaitedType {
		eventType = protocol.CompletedType
	}
	notice, err := protocol.NoticeOf(received, eventType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	switch eventType {
	case protocol.CancelledType:
		return w.cancel(ctx, notice.RunID)
	case protocol.AwaitedType:
		notice.Begun = true // its started event was sent
	default:
		notice.Begun = notice.Deleted
	}
	return w.next(ctx, notice)
}

// cancel deletes the Jobs of a run that have not ended, and replies with those that were running. It marks them
// as reported first, since nobody wants to hear of their deletion.
func (w *Watcher) cancel(ctx context.Context, runID string) (*event.Event, error) {
	jobs, listing := w.Runs.List(ctx, runID)
	answer := w.cancelled(ctx, jobs)
	failures := []error{listing} // cancel those that can be listed
	for index := range jobs {
		if !run.IsReported(&jobs[index]) {
			failures = append(failures, w.Runs.MarkReported(ctx, &jobs[index], w.Now()))
		}
	}
	if err := errors.Join(append(failures, w.delete(ctx, jobs))...); err != nil || answer == nil {
		return nil, err
	}
	return new(answer.Event()), nil
}

// cancelled returns the answer about the Jobs that run when their run is cancelled; nil if none does, or without
// a trace.
func (w *Watcher) cancelled(ctx context.Context, jobs []batchv1.Job) *protocol.Answer {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return nil
	}
	var answer *protocol.Answer
	for index := range jobs {
		job := &jobs[index]
		task, err := taskOf([]byte(job.Annotations[run.TaskAnnotation]))
		if err != nil || run.PhaseOf(job) != run.Running {
			continue
		}
		if answer == nil {
			answer = &protocol.Answer{Task: task, Phase: protocol.JobsCancelled, At: w.Now()}
		}
		pods, err := w.Pods.List(ctx, job)
		if err != nil {
			w.Log.WarnContext(ctx, "listing the pods of a cancelled Job failed", "job", job.Name, "error", err)
		}
		answer.Jobs = append(answer.Jobs, timeline.Of(timeline.Evidence{Task: task, Job: job, Pods: pods, Result: keptn.RunCancellation}, w.Now()))
	}
	return answer
}

// delete deletes the Jobs that have not ended, the last one first: a waiting Job must not start
// because the one before it ended.
func (w *Watcher) delete(ctx context.Context, jobs []batchv1.Job) error {
	for index := len(jobs) - 1; index >= 0; index-- {
		if !run.IsActive(&jobs[index]) {
			continue
		}
		if err := w.Runs.Delete(ctx, &jobs[index]); err != nil {
			return err
		}
		w.Log.InfoContext(ctx, "Job deleted: no longer needed", "run", jobs[index].Labels[run.EventIDLabel], "job", jobs[index].Name)
	}
	return nil
}

// next advances a run: it starts the next Job, or replies with the run's finished event once the
// run has ended.
func (w *Watcher) next(ctx context.Context, asked protocol.Notice) (*event.Event, error) {
	jobs, err := w.Runs.List(ctx, asked.RunID)
	refused, isRefused := errors.AsType[*store.RefusedError](err)
	if err != nil && !isRefused {
		return nil, err
	}
	if err := w.settleSidecars(ctx, jobs); err != nil {
		return nil, err
	}
	log := w.Log.With("run", asked.RunID)
	step := run.Next(jobs, asked.Begun)
	// Jobs that cannot be listed are gone if jobsource saw them deleted, or if nothing was heard
	// of them for too long.
	if refused != nil && !asked.Deleted && asked.Reason == "" && (len(jobs) == 0 || step.IsMissing(refused.Namespaces)) {
		return nil, err
	}
	switch {
	case len(jobs) == 0 && asked.Begun:
		return w.giveUp(ctx, asked)
	case len(step.Resume) > 0:
		return w.resume(ctx, log, asked, step.Resume)
	case step.Ended:
		return w.finish(ctx, asked, jobs, step)
	}
	for index := range jobs {
		if job := &jobs[index]; asked.Pending && job.Name == asked.Job && run.PhaseOf(job) == run.Running {
			return w.waiting(ctx, job)
		}
		if job := &jobs[index]; asked.Unstarted && job.Name == asked.Job && run.PhaseOf(job) == run.Running {
			return w.unstarted(ctx, asked, job)
		}
	}
	log.InfoContext(ctx, "run in progress", "jobs", len(jobs))
	return nil, nil
}

// resume starts the next Jobs. A forbidden Job is given up, and the run advances without it.
func (w *Watcher) resume(ctx context.Context, log *slog.Logger, asked protocol.Notice, jobs []*batchv1.Job) (*event.Event, error) {
	var failures []error
	givenUp := false
	for _, job := range jobs {
		why, err := w.refuses(ctx, job)
		switch {
		case err != nil:
			failures = append(failures, err)
		case why != "":
			log.WarnContext(ctx, "Job given up: it may not start", "job", job.Name, "reason", why)
			failures = append(failures, w.Runs.GiveUp(ctx, job, why, w.Now()))
			givenUp = true
		default:
			log.InfoContext(ctx, "starting the next Job", "job", job.Name)
			failures = append(failures, w.Runs.Resume(ctx, job))
		}
	}
	if err := errors.Join(failures...); err != nil || !givenUp {
		return nil, err
	}
	return w.next(ctx, asked)
}

func (w *Watcher) refuses(ctx context.Context, job *batchv1.Job) (string, error) {
	if w.Rules == nil {
		return "", nil
	}
	return w.Rules.Refuses(ctx, job)
}

// waiting tells Keptn's log why a task has not started yet.
func (w *Watcher) waiting(ctx context.Context, job *batchv1.Job) (*event.Event, error) {
	why, err := w.whyUnstarted(ctx, job)
	if err != nil || why == "" {
		return nil, err
	}
	task, err := taskOf([]byte(job.Annotations[run.TaskAnnotation]))
	if err != nil {
		return nil, function.Permanent(err)
	}
	w.Log.InfoContext(ctx, "Job waits", "job", job.Name, "reason", why)
	answer := protocol.Log(task, w.Now(), fmt.Sprintf("Task '%s' is waiting: %s", job.Annotations[run.TaskNameAnnotation], why), "")
	answer.Phase = protocol.LogWaiting
	return new(answer.Event()), nil
}

// unstarted gives up a Job whose task did not start in time, and so ends its run.
func (w *Watcher) unstarted(ctx context.Context, asked protocol.Notice, job *batchv1.Job) (*event.Event, error) {
	why, err := w.whyUnstarted(ctx, job)
	if err != nil || why == "" {
		return nil, err
	}
	w.Log.WarnContext(ctx, "Job given up: it could not start", "run", asked.RunID, "job", job.Name, "reason", why)
	if err := w.Runs.GiveUp(ctx, job, why, w.Now()); err != nil {
		return nil, err
	}
	asked.Unstarted = false
	return w.next(ctx, asked)
}

// whyUnstarted returns why a Job's task has not started yet, empty if it has. Events are searched only if the pod does
// not say it.
func (w *Watcher) whyUnstarted(ctx context.Context, job *batchv1.Job) (string, error) {
	found, err := w.evidence(ctx, job)
	if err != nil {
		return "", err
	}
	if last := len(found.pods) - 1; last < 0 || unscheduled(&found.pods[last]) == "" {
		w.search(ctx, &found)
	}
	return excerpt.Shorten(redact.Clean(found.unstarted(w.Now())), "the Job's events", maxSentenceBytes), nil
}

// giveUp answers for a run without Jobs.
func (w *Watcher) giveUp(ctx context.Context, asked protocol.Notice) (*event.Event, error) {
	task, err := taskOf(asked.Task)
	if err != nil {
		return nil, function.Permanent(err)
	}
	why := "The Jobs of this task were deleted before its result was read. Run the sequence again."
	if asked.Reason != "" {
		why = asked.Reason
	}
	w.Log.WarnContext(ctx, "finishing run as errored: its Jobs are gone", "run", asked.RunID, "reason", why)
	answer := protocol.Errored(task, w.Now(), why)
	if asked.Silent {
		answer = protocol.Log(task, w.Now(), why, keptn.RunError)
	}
	reply := answer.Event()
	return &reply, nil
}

func taskOf(content []byte) (keptn.Task, error) {
	var task keptn.Task
	if err := json.Unmarshal(content, &task); err != nil {
		return keptn.Task{}, fmt.Errorf("read the task of a run: %w", err)
	}
	return task, nil
}
