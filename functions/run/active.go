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

// ActiveType is the type of the event that tells that a run has not been reported.
const ActiveType = "io.github.job-executor.run.active"

// Activity is the data of that event.
type Activity struct {
	RunID string `json:"runID"`
	// Begun says that its first Job is there, which is created last.
	Begun bool `json:"begun"`
	// Ended says that none of its Jobs runs, or waits to.
	Ended bool `json:"ended,omitempty"`
	// Silent says that the run reports nothing.
	Silent bool `json:"silent,omitempty"`
	// Task is the Keptn task, as it stands in TaskAnnotation.
	Task json.RawMessage `json:"task"`
}

// Active returns the event that a run is active at a time, from its Jobs.
func Active(jobs []*batchv1.Job, at time.Time) (event.Event, error) {
	job, runID := jobs[0], jobs[0].Labels[EventIDLabel]
	first := PlanOf(job)[0].Name
	return ofRun(ActiveType, "/apis/batch/v1/namespaces/"+job.Namespace+"/jobs", runID, runID+"-active-"+strconv.FormatInt(at.Unix(), 10), Activity{
		RunID:  runID,
		Begun:  slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return job.Name == first || PhaseOf(job) != Waiting }),
		Ended:  !slices.ContainsFunc(jobs, IsActive),
		Silent: IsSilent(job), Task: taskOf(job),
	}, at)
}

// ActivityOf reads that event, and into task the Keptn task whose run it is.
func ActivityOf(active event.Event, task any) (Activity, error) {
	var activity Activity
	if err := read(active, ActiveType, &activity, func() string { return activity.RunID }); err != nil {
		return Activity{}, err
	}
	if len(activity.Task) == 0 {
		return Activity{}, errors.New("event " + active.ID() + " names no task")
	}
	if err := json.Unmarshal(activity.Task, task); err != nil {
		return Activity{}, fmt.Errorf("reading the task of event %s: %w", active.ID(), err)
	}
	return activity, nil
}

// IsActive says whether a Job may still run, or wait to.
func IsActive(job *batchv1.Job) bool {
	phase := PhaseOf(job)
	return phase == Waiting || phase == Running
}
