package run

import (
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
)

// CompletedType is the type of the event that tells that a Job finished.
const CompletedType = "io.github.job-executor.job.completed"

// Completion is the data of a completion event.
type Completion struct {
	RunID     string `json:"runID"`
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
}

// Completed returns the completion event of a finished Job. Its id derives from
// the Job's uid: it is the same however often the completion is sent.
func Completed(job *batchv1.Job) (event.Event, error) {
	completed := event.New()
	completed.SetID(string(job.UID) + "-completed")
	completed.SetType(CompletedType)
	completed.SetSource("/apis/batch/v1/namespaces/" + job.Namespace + "/jobs")
	completed.SetSubject(job.Name)
	completed.SetTime(FinishedAt(job))
	err := completed.SetData(event.ApplicationJSON, Completion{RunID: job.Labels[EventIDLabel], Namespace: job.Namespace, Job: job.Name})
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding the completion of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return completed, nil
}

// CompletionOf reads a completion event.
func CompletionOf(completed event.Event) (Completion, error) {
	if completed.Type() != CompletedType {
		return Completion{}, fmt.Errorf("event type %q is not %s", completed.Type(), CompletedType)
	}
	var completion Completion
	if err := completed.DataAs(&completion); err != nil {
		return Completion{}, fmt.Errorf("reading the data of event %s: %w", completed.ID(), err)
	}
	if completion.RunID == "" {
		return Completion{}, fmt.Errorf("event %s names no run", completed.ID())
	}
	return completion, nil
}
