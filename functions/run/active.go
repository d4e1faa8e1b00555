package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
)

// ActiveType is the type of the event that tells that a run has not ended.
const ActiveType = "io.github.job-executor.run.active"

type activity struct {
	RunID string `json:"runID"`
	// Begun says that its first Job is there, which is created last.
	Begun bool `json:"begun"`
	// Task is the Keptn task, as it stands in TaskAnnotation.
	Task json.RawMessage `json:"task"`
}

// Active returns the event that a run is active at a time, from its Jobs.
func Active(jobs []*batchv1.Job, at time.Time) (event.Event, error) {
	job, runID := jobs[0], jobs[0].Labels[EventIDLabel]
	begun := slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return PhaseOf(job) != Waiting })
	active := event.New()
	active.SetID(runID + "-active-" + strconv.FormatInt(at.Unix(), 10))
	active.SetType(ActiveType)
	active.SetSource("/apis/batch/v1/namespaces/" + job.Namespace + "/jobs")
	active.SetTime(at)
	err := active.SetData(event.ApplicationJSON, activity{RunID: runID, Begun: begun, Task: json.RawMessage(job.Annotations[TaskAnnotation])})
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding that run %s is active: %w", runID, err)
	}
	return active, nil
}

// ActiveTask reads into task the Keptn task whose run an event says to be active,
// and says whether all Jobs of the run have been created.
func ActiveTask(active event.Event, task any) (begun bool, err error) {
	var data activity
	if err := active.DataAs(&data); err != nil {
		return false, fmt.Errorf("reading the data of event %s: %w", active.ID(), err)
	}
	if len(data.Task) == 0 {
		return false, errors.New("event " + active.ID() + " names no task")
	}
	if err := json.Unmarshal(data.Task, task); err != nil {
		return false, fmt.Errorf("reading the task of event %s: %w", active.ID(), err)
	}
	return data.Begun, nil
}

// IsActive says whether a Job may still run, or wait to.
func IsActive(job *batchv1.Job) bool {
	phase := PhaseOf(job)
	return phase == Waiting || phase == Running
}
