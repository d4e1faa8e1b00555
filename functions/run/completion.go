package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
)

// CompletedType is the type of the event that tells that a Job finished, was
// deleted, or can't start.
const CompletedType = "io.github.job-executor.job.completed"

// Completion is the data of a completion event.
type Completion struct {
	RunID     string `json:"runID"`
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
	// Task is the Keptn task, as it stands in TaskAnnotation: of a run of which no Job
	// is left it is all there is.
	Task json.RawMessage `json:"task"`
	// Silent says that the run reports nothing.
	Silent bool `json:"silent,omitempty"`
	// Deleted says that the Job was deleted before the run was reported.
	Deleted bool `json:"deleted,omitempty"`
	// Unstarted says that the Job's pod has not started for as long as it may take.
	Unstarted bool `json:"unstarted,omitempty"`
}

// How a Job completed.
const (
	Finished  = "completed"
	Deleted   = "deleted"
	Unstarted = "unstarted"
)

// Completed returns the completion event of a Job that has finished, was deleted, or
// can't start. Its id derives from the Job's uid: it is the same however often the
// completion is sent.
func Completed(job *batchv1.Job, how string, at time.Time) (event.Event, error) {
	completed := event.New()
	completed.SetID(string(job.UID) + "-" + how)
	completed.SetType(CompletedType)
	completed.SetSource("/apis/batch/v1/namespaces/" + job.Namespace + "/jobs")
	completed.SetSubject(job.Name)
	if finished := FinishedAt(job); !finished.IsZero() {
		at = finished
	}
	completed.SetTime(at)
	err := completed.SetData(event.ApplicationJSON, Completion{
		RunID: job.Labels[EventIDLabel], Namespace: job.Namespace, Job: job.Name, Task: taskOf(job), Silent: IsSilent(job),
		Deleted: how == Deleted, Unstarted: how == Unstarted,
	})
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding the completion of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return completed, nil
}

// taskOf is the Keptn task that a Job belongs to, null if what it says is no JSON.
func taskOf(job *batchv1.Job) json.RawMessage {
	if task := []byte(job.Annotations[TaskAnnotation]); json.Valid(task) {
		return task
	}
	return nil
}

// CompletionOf reads a completion event.
func CompletionOf(completed event.Event) (Completion, error) {
	var completion Completion
	return completion, read(completed, CompletedType, &completion, func() string { return completion.RunID })
}

// AwaitedType is the type of the event by which the bridge asks for the result of a
// run that Keptn waits for and of which nothing was heard.
const AwaitedType = "io.github.job-executor.run.awaited"

// Awaiting is the data of that event.
type Awaiting struct {
	RunID string `json:"runID"`
	// Task is the Keptn task, as it stands in TaskAnnotation.
	Task json.RawMessage `json:"task"`
	// Reason is why there may be no Job at all; empty if there has to be one.
	Reason string `json:"reason,omitempty"`
}

// Awaited returns the event that asks for the result of a run.
func Awaited(source, runID string, task any, reason string, at time.Time) (event.Event, error) {
	content, err := json.Marshal(task)
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding the task of run %s: %w", runID, err)
	}
	return ofRun(AwaitedType, source, runID, fmt.Sprintf("%s-awaited-%d", runID, at.UnixMilli()), Awaiting{RunID: runID, Task: content, Reason: reason}, at)
}

// AwaitingOf reads that event.
func AwaitingOf(awaited event.Event) (Awaiting, error) {
	var awaiting Awaiting
	return awaiting, read(awaited, AwaitedType, &awaiting, func() string { return awaiting.RunID })
}

// ReportedType is the type of the event that tells that Keptn has a run's result, or
// will never want one.
const ReportedType = "io.github.job-executor.run.reported"

// CancelledType is the type of the event that tells that nobody waits for a run
// any more.
const CancelledType = "io.github.job-executor.run.cancelled"

type aboutRun struct {
	RunID string `json:"runID"`
}

// Reported returns the event that tells that Keptn has a run's result.
func Reported(source, runID string, at time.Time) (event.Event, error) {
	return ofRun(ReportedType, source, runID, runID+"-reported", aboutRun{runID}, at)
}

// Cancelled returns the cancellation of a run, with the same id every time.
func Cancelled(source, runID string, at time.Time) (event.Event, error) {
	return ofRun(CancelledType, source, runID, runID+"-cancelled", aboutRun{runID}, at)
}

// Of returns the id of the run that a Reported or Cancelled event is about.
func Of(told event.Event) (string, error) {
	var data aboutRun
	return data.RunID, read(told, told.Type(), &data, func() string { return data.RunID })
}

func ofRun(eventType, source, runID, id string, data any, at time.Time) (event.Event, error) {
	made := event.New()
	made.SetID(id)
	made.SetType(eventType)
	made.SetSource(source)
	made.SetTime(at)
	if err := made.SetData(event.ApplicationJSON, data); err != nil {
		return event.Event{}, fmt.Errorf("encoding event %s about run %s: %w", eventType, runID, err)
	}
	return made, nil
}

// read reads the data of an event that has to be of a type and to name a run.
func read(received event.Event, eventType string, data any, runID func() string) error {
	if received.Type() != eventType {
		return fmt.Errorf("event type %q is not %s", received.Type(), eventType)
	}
	if err := received.DataAs(data); err != nil {
		return fmt.Errorf("reading the data of event %s: %w", received.ID(), err)
	}
	if runID() == "" {
		return errors.New("event " + received.ID() + " names no run")
	}
	return nil
}
