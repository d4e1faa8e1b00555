package run

import (
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
)

// What functions tell each other of a run: the event's type, source, id and data.
func TestNotices(t *testing.T) {
	at := time.Unix(1000, 5e6)
	const plan = `[{"namespace":"jobs","name":"a"},{"namespace":"jobs","name":"b"}]`
	made := func(name string, phase Phase, annotations ...string) *batchv1.Job {
		job := job(name, phase)
		job.Annotations[TaskAnnotation], job.Annotations[PlanAnnotation] = `{"name":"test"}`, plan
		for index := 0; index < len(annotations); index += 2 {
			job.Annotations[annotations[index]] = annotations[index+1]
		}
		return &job
	}
	const source, task = "/apis/batch/v1/namespaces/jobs/jobs", `{"name":"test"}`
	tests := []struct {
		name       string
		event      event.Event
		id, source string
		want       Notice
	}{
		{"a Job was deleted", Completed(made("a", Running), Deleted, at), "uid-a-deleted", source, Notice{RunID: "run", Job: "a", Task: []byte(task), Deleted: true}},
		{"a Job can't start", Completed(made("a", Running), Unstarted, at), "uid-a-unstarted", source, Notice{RunID: "run", Job: "a", Task: []byte(task), Unstarted: true}},
		{"a silent Job finished", Completed(made("a", Succeeded, SilentAnnotation, "true"), Finished, at), "uid-a-completed", source, Notice{RunID: "run", Job: "a", Task: []byte(task), Silent: true}},
		{"its task can't be read", Completed(made("a", Running, TaskAnnotation, "{"), Deleted, at), "uid-a-deleted", source, Notice{RunID: "run", Job: "a", Deleted: true}},
		{"it is being created", Active([]*batchv1.Job{made("b", Waiting)}, at), "run-active-1000", source, Notice{RunID: "run", Task: []byte(task)}},
		{"its first Job is there", Active([]*batchv1.Job{made("a", Waiting), made("b", Waiting)}, at), "run-active-1000", source, Notice{RunID: "run", Task: []byte(task), Begun: true}},
		{"its first Job is gone, and the second runs", Active([]*batchv1.Job{made("b", Running)}, at), "run-active-1000", source, Notice{RunID: "run", Task: []byte(task), Begun: true}},
		{"it has ended", Active([]*batchv1.Job{made("a", Succeeded), made("b", Failed)}, at), "run-active-1000", source, Notice{RunID: "run", Task: []byte(task), Begun: true, Ended: true}},
		{"its result is asked for", Awaited("bridge", "run", []byte(task), "why", at), "run-awaited-1000005", "bridge", Notice{RunID: "run", Task: []byte(task), Reason: "why"}},
		{"it is reported", Reported("bridge", "run", at), "run-reported", "bridge", Notice{RunID: "run"}},
		{"it is cancelled", Cancelled("bridge", "run", at), "run-cancelled", "bridge", Notice{RunID: "run"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.event.Validate(); err != nil {
				t.Fatal(err)
			}
			got, err := NoticeOf(test.event, test.event.Type())
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff([]any{test.id, test.source, test.want}, []any{test.event.ID(), test.event.Source(), got}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if _, err := NoticeOf(test.event, "another"); err == nil {
				t.Error("it was taken for another")
			}
		})
	}
	if _, err := NoticeOf(Reported("bridge", "", at), ReportedType); err == nil || err.Error() != "event -reported names no run" {
		t.Errorf("got %v", err)
	}
}

func TestWhatAJobSaysOfItself(t *testing.T) {
	failed := job("a", Failed)
	if reason, message := FailureOf(&failed); reason != "BackoffLimitExceeded" || message != "it failed" {
		t.Errorf("got %s, %s", reason, message)
	}
	for name, test := range map[string]struct {
		job    batchv1.Job
		phase  Phase
		active bool
	}{
		"it waits":        {job("a", Waiting), Waiting, true},
		"it runs":         {job("a", Running), Running, true},
		"it has ended":    {job("a", Succeeded), Succeeded, false},
		"it has failed":   {failed, Failed, false},
		"it was given up": {*givenUp(), Failed, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := PhaseOf(&test.job); got != test.phase || IsActive(&test.job) != test.active {
				t.Errorf("it is %s, active: %v", got, IsActive(&test.job))
			}
			if reason, _ := FailureOf(&test.job); (reason != "") != (name == "it has failed") {
				t.Errorf("it failed for %q", reason)
			}
		})
	}
}

// givenUp is a Job that could not start.
func givenUp() *batchv1.Job {
	made := job("a", Waiting)
	made.Annotations[FailureAnnotation] = "no image"
	return &made
}
