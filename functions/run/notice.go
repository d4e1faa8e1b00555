package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/keptn"
)

// The types of the events by which functions tell each other of runs.
const (
	// CompletedType tells that a Job finished, was deleted, can't start, or has begun
	// beside others.
	CompletedType = "io.github.job-executor.job.completed"
	// ActiveType tells that a run has not been reported.
	ActiveType = "io.github.job-executor.run.active"
	// AwaitedType asks for the result of a run that Keptn waits for and of which nothing
	// was heard.
	AwaitedType = "io.github.job-executor.run.awaited"
	// ReportedType tells that Keptn has a run's result, or will never want one.
	ReportedType = "io.github.job-executor.run.reported"
	// CancelledType tells that nobody waits for a run any more.
	CancelledType = "io.github.job-executor.run.cancelled"
)

// Notice is the data of such an event, as far as it has each of these.
type Notice struct {
	RunID string `json:"runID"`
	// Task is the Keptn task, as it stands in TaskAnnotation: of a run of which no Job
	// is left it is all there is.
	Task json.RawMessage `json:"task,omitempty"`
	// Job is the one that completed.
	Job string `json:"job,omitempty"`
	// Silent says that the run reports nothing.
	Silent bool `json:"silent,omitempty"`
	// Deleted says that the Job was deleted before the run was reported.
	Deleted bool `json:"deleted,omitempty"`
	// Unstarted says that the Job's pod has not started for as long as it may take.
	Unstarted bool `json:"unstarted,omitempty"`
	// Pending says that it has not started for so long that a person should be told why.
	Pending bool `json:"pending,omitempty"`
	// Begun says that the run's first Job is there, which is created last.
	Begun bool `json:"begun,omitempty"`
	// Ended says that none of its Jobs runs, or waits to.
	Ended bool `json:"ended,omitempty"`
	// Reason is why there may be no Job at all; empty if there has to be one.
	Reason string `json:"reason,omitempty"`
}

// NoticeOf reads an event about a run, which has to be of the type.
func NoticeOf(received event.Event, eventType string) (Notice, error) {
	var notice Notice
	if received.Type() != eventType {
		return Notice{}, fmt.Errorf("event type %q is not %s", received.Type(), eventType)
	}
	if err := received.DataAs(&notice); err != nil {
		return Notice{}, fmt.Errorf("reading the data of event %s: %w", received.ID(), err)
	}
	if notice.RunID == "" {
		return Notice{}, errors.New("event " + received.ID() + " names no run")
	}
	return notice, nil
}

// How a Job completed; or that it has begun, where others are to run at the same time.
const (
	Begun     = "begun"
	Finished  = "completed"
	Deleted   = "deleted"
	Unstarted = "unstarted"
	Pending   = "pending"
)

// Completed returns the completion event of a Job that has finished, was deleted, can't
// start, or has begun beside others. Its id derives from the Job's uid: it is the same however often the
// completion is sent.
func Completed(job *batchv1.Job, how string, at time.Time) event.Event {
	if finished := FinishedAt(job); !finished.IsZero() {
		at = finished
	}
	completed := noticed(CompletedType, sourceOf(job), string(job.UID)+"-"+how, at, Notice{
		RunID: job.Labels[EventIDLabel], Job: job.Name, Task: taskOf(job), Silent: IsSilent(job),
		Deleted: how == Deleted, Unstarted: how == Unstarted, Pending: how == Pending,
	})
	completed.SetSubject(job.Name)
	return completed
}

// Active returns the event that a run is active at a time, from its Jobs.
func Active(jobs []*batchv1.Job, at time.Time) event.Event {
	job, runID := jobs[0], jobs[0].Labels[EventIDLabel]
	first := PlanOf(job)[0].Name
	return noticed(ActiveType, sourceOf(job), fmt.Sprintf("%s-active-%d", runID, at.Unix()), at, Notice{
		RunID: runID, Silent: IsSilent(job), Task: taskOf(job),
		Begun: slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return job.Name == first || PhaseOf(job) != Waiting }),
		Ended: !slices.ContainsFunc(jobs, IsActive),
	})
}

// Awaited returns the event that asks for the result of a task's run.
func Awaited(source, runID string, task json.RawMessage, reason string, at time.Time) event.Event {
	return noticed(AwaitedType, source, fmt.Sprintf("%s-awaited-%d", runID, at.UnixMilli()), at, Notice{RunID: runID, Task: task, Reason: reason})
}

// Reported returns the event that tells that Keptn has a run's result.
func Reported(source, runID, keptnContext string, at time.Time) event.Event {
	return within(keptnContext, noticed(ReportedType, source, runID+"-reported", at, Notice{RunID: runID}))
}

// Cancelled returns the cancellation of a run, with the same id every time.
func Cancelled(source, runID, keptnContext string, at time.Time) event.Event {
	return within(keptnContext, noticed(CancelledType, source, runID+"-cancelled", at, Notice{RunID: runID}))
}

func noticed(eventType, source, id string, at time.Time, notice Notice) event.Event {
	made := event.New()
	made.SetID(id)
	made.SetType(eventType)
	made.SetSource(source)
	made.SetTime(at)
	// Its task is valid JSON, and everything else always encodes.
	_ = made.SetData(event.ApplicationJSON, notice)
	var task keptn.Task
	_ = json.Unmarshal(notice.Task, &task) // what names none is in none
	return within(task.Context, made)
}

// within has an event name the Keptn context that it is about, for the log of who takes it.
func within(keptnContext string, made event.Event) event.Event {
	if keptnContext != "" {
		made.SetExtension(keptn.ContextExtension, keptnContext)
	}
	return made
}

func sourceOf(job *batchv1.Job) string {
	return "/apis/batch/v1/namespaces/" + job.Namespace + "/jobs"
}

// taskOf is the Keptn task that a Job belongs to, nothing if what it says is no JSON.
func taskOf(job *batchv1.Job) json.RawMessage {
	if task := []byte(job.Annotations[TaskAnnotation]); json.Valid(task) {
		return task
	}
	return nil
}

// IsActive says whether a Job may still run, or wait to.
func IsActive(job *batchv1.Job) bool {
	phase := PhaseOf(job)
	return phase == Waiting || phase == Running
}
