package protocol

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// The types of notices.
const (
	// CompletedType is jobsource's notice that a Job finished, was deleted, did not start in time, or
	// started while others of its action wait.
	CompletedType = "io.github.job-executor.job.completed"
	// ActiveType is jobsource's notice that a run exists and is not reported yet.
	ActiveType = "io.github.job-executor.run.active"
	// AwaitedType is the bridge's question for the result of a run.
	AwaitedType = "io.github.job-executor.run.awaited"
	// ReportedType is the bridge's notice that Keptn has counted a run's result, or no longer waits for it.
	ReportedType = "io.github.job-executor.run.reported"
	// CancelledType is the bridge's notice that Keptn no longer waits for a run's result.
	CancelledType = "io.github.job-executor.run.cancelled"
)

// Notice is the data of a notice. Each type uses some of the fields.
type Notice struct {
	RunID string `json:"runID"`
	// Task is the Keptn task, in the form of run.TaskAnnotation. The watcher needs it if all Jobs of the
	// run are gone.
	Task json.RawMessage `json:"task,omitempty"`
	// Job is the name of the Job that completed.
	Job string `json:"job,omitempty"`
	// Silent is true if Keptn gets no event for the run.
	Silent bool `json:"silent,omitempty"`
	// Deleted is true if the Job was deleted before its run was reported.
	Deleted bool `json:"deleted,omitempty"`
	// Unstarted is true if the Job's pod missed the start deadline.
	Unstarted bool `json:"unstarted,omitempty"`
	// Pending is true if the Job's pod has not started for so long that Keptn's log should say why.
	Pending bool `json:"pending,omitempty"`
	// Begun is true if the run's first Job exists. The executor creates it last.
	Begun bool `json:"begun,omitempty"`
	// Ended is true if no Job of the run runs or waits.
	Ended bool `json:"ended,omitempty"`
	// Reason is why the run may have no Jobs at all; empty if it must have some.
	Reason string `json:"reason,omitempty"`
}

// NoticeOf decodes a notice of a type. Its error says what is missing.
func NoticeOf(received event.Event, eventType string) (Notice, error) {
	var notice Notice
	if received.Type() != eventType {
		return Notice{}, fmt.Errorf("event type %q is not %s", received.Type(), eventType)
	}
	if err := received.DataAs(&notice); err != nil {
		return Notice{}, fmt.Errorf("decode notice %s: %w", received.ID(), err)
	}
	if notice.RunID == "" {
		return Notice{}, fmt.Errorf("notice %s has no run", received.ID())
	}
	return notice, nil
}

// The reasons for a completion event.
const (
	// JobBegun is the start of a Job of a parallel action. The next one may start, too.
	JobBegun     = "begun"
	JobFinished  = "completed"
	JobDeleted   = "deleted"
	JobUnstarted = "unstarted"
	JobPending   = "pending"
)

// Completed returns the completion event of a Job. Its id is derived from the Job's uid, so a resent
// completion has the same id.
func Completed(job *batchv1.Job, how string, at time.Time) event.Event {
	if finished := run.FinishedAt(job); !finished.IsZero() {
		at = finished
	}
	completed := noticed(CompletedType, sourceOf(job), string(job.UID)+"-"+how, at, Notice{
		RunID: job.Labels[run.EventIDLabel], Job: job.Name, Task: taskOf(job), Silent: run.IsSilent(job),
		Deleted: how == JobDeleted, Unstarted: how == JobUnstarted, Pending: how == JobPending,
	})
	completed.SetSubject(job.Name)
	return completed
}

// Active returns the notice that a run exists, given its Jobs.
func Active(jobs []*batchv1.Job, at time.Time) event.Event {
	job, runID := jobs[0], jobs[0].Labels[run.EventIDLabel]
	first := run.PlanOf(job)[0].Name
	return noticed(ActiveType, sourceOf(job), fmt.Sprintf("%s-active-%d", runID, at.Unix()), at, Notice{
		RunID: runID, Silent: run.IsSilent(job), Task: taskOf(job),
		Begun: slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return job.Name == first || run.PhaseOf(job) != run.Waiting }),
		Ended: !slices.ContainsFunc(jobs, run.IsActive),
	})
}

// Awaited returns the question for the result of a task's run.
func Awaited(source, runID string, task json.RawMessage, reason string, at time.Time) event.Event {
	return noticed(AwaitedType, source, fmt.Sprintf("%s-awaited-%d", runID, at.UnixMilli()), at, Notice{RunID: runID, Task: task, Reason: reason})
}

// Reported returns the notice that Keptn has a run's result.
func Reported(source, runID, keptnContext string, at time.Time) event.Event {
	return within(keptnContext, noticed(ReportedType, source, runID+"-reported", at, Notice{RunID: runID}))
}

// Cancelled returns the cancellation of a run, with the same id every time.
func Cancelled(source, runID, keptnContext string, at time.Time) event.Event {
	return within(keptnContext, noticed(CancelledType, source, runID+"-cancelled", at, Notice{RunID: runID}))
}

func noticed(eventType, source, id string, at time.Time, notice Notice) event.Event {
	created := event.New()
	created.SetID(id)
	created.SetType(eventType)
	created.SetSource(source)
	created.SetTime(at)
	if receiver := ReceiverOf(eventType); receiver != "" {
		created.SetExtension(ReceiverExtension, receiver)
	}
	// The task is valid JSON, and everything else always encodes.
	_ = created.SetData(event.ApplicationJSON, notice)
	var task keptn.Task
	_ = json.Unmarshal(notice.Task, &task) // without a task there is no context
	return within(task.Context, created)
}

// within adds the Keptn context, which receivers log.
func within(keptnContext string, created event.Event) event.Event {
	if keptnContext != "" {
		created.SetExtension(keptn.ContextExtension, keptnContext)
	}
	return created
}

func sourceOf(job *batchv1.Job) string {
	return "/apis/batch/v1/namespaces/" + job.Namespace + "/jobs"
}

// taskOf returns the Keptn task of a Job, nil if its annotation is not valid JSON.
func taskOf(job *batchv1.Job) json.RawMessage {
	if task := []byte(job.Annotations[run.TaskAnnotation]); json.Valid(task) {
		return task
	}
	return nil
}
