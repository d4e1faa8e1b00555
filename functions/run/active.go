package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
)

// ActiveType is the type of the event that tells that a run has not ended.
const ActiveType = "io.github.job-executor.run.active"

type activity struct {
	RunID string `json:"runID"`
	// Task is the Keptn task, as it stands in TaskAnnotation.
	Task json.RawMessage `json:"task"`
}

// Active returns the event that the run of a Job is active at a time.
func Active(job *batchv1.Job, at time.Time) (event.Event, error) {
	runID := job.Labels[EventIDLabel]
	active := event.New()
	active.SetID(runID + "-active-" + strconv.FormatInt(at.Unix(), 10))
	active.SetType(ActiveType)
	active.SetSource("/apis/batch/v1/namespaces/" + job.Namespace + "/jobs")
	active.SetTime(at)
	err := active.SetData(event.ApplicationJSON, activity{RunID: runID, Task: json.RawMessage(job.Annotations[TaskAnnotation])})
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding that run %s is active: %w", runID, err)
	}
	return active, nil
}

// ActiveTask reads into task the Keptn task whose run an event says to be active.
func ActiveTask(active event.Event, task any) error {
	var data activity
	if err := active.DataAs(&data); err != nil {
		return fmt.Errorf("reading the data of event %s: %w", active.ID(), err)
	}
	if len(data.Task) == 0 {
		return errors.New("event " + active.ID() + " names no task")
	}
	if err := json.Unmarshal(data.Task, task); err != nil {
		return fmt.Errorf("reading the task of event %s: %w", active.ID(), err)
	}
	return nil
}

// IsActive says whether a Job may still run, or wait to.
func IsActive(job *batchv1.Job) bool {
	phase := PhaseOf(job)
	return phase == Waiting || phase == Running
}
