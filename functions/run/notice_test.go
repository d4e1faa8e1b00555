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
		job.Annotations[TaskAnnotation], job.Annotations[PlanAnnotation] = `{"name":"test","context":"c"}`, plan
		for index := 0; index < len(annotations); index += 2 {
			job.Annotations[annotations[index]] = annotations[index+1]
		}
		return &job
	}
	const source, task = "/apis/batch/v1/namespaces/jobs/jobs", `{"name":"test","context":"c"}`
	tests := []struct {
		name       string
		event      event.Event
		id, source string
		want       Notice
	}{
		{
			name:   "a Job was deleted",
			event:  Completed(made("a", Running), Deleted, at),
			id:     "uid-a-deleted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Deleted: true},
		},
		{
			name:   "a Job can't start",
			event:  Completed(made("a", Running), Unstarted, at),
			id:     "uid-a-unstarted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Unstarted: true},
		},
		{
			name:   "a silent Job finished",
			event:  Completed(made("a", Succeeded, SilentAnnotation, "true"), Finished, at),
			id:     "uid-a-completed",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Silent: true},
		},
		{
			name:   "its task can't be read",
			event:  Completed(made("a", Running, TaskAnnotation, "{"), Deleted, at),
			id:     "uid-a-deleted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Deleted: true},
		},
		{
			name:   "it is being created",
			event:  Active([]*batchv1.Job{made("b", Waiting)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task)},
		},
		{
			name:   "its first Job is there",
			event:  Active([]*batchv1.Job{made("a", Waiting), made("b", Waiting)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true},
		},
		{
			name:   "its first Job is gone, and the second runs",
			event:  Active([]*batchv1.Job{made("b", Running)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true},
		},
		{
			name:   "it has ended",
			event:  Active([]*batchv1.Job{made("a", Succeeded), made("b", Failed)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true, Ended: true},
		},
		{
			name:   "its result is asked for",
			event:  Awaited("bridge", "run", []byte(task), "why", at),
			id:     "run-awaited-1000005",
			source: "bridge",
			want:   Notice{RunID: "run", Task: []byte(task), Reason: "why"},
		},
		{name: "it is reported", event: Reported("bridge", "run", "c", at), id: "run-reported", source: "bridge", want: Notice{RunID: "run"}},
		{name: "it is cancelled", event: Cancelled("bridge", "run", "c", at), id: "run-cancelled", source: "bridge", want: Notice{RunID: "run"}},
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
			within, wantWithin := test.event.Extensions()["shkeptncontext"], any("c")
			if test.name == "its task can't be read" {
				wantWithin = nil
			}
			if difference := cmp.Diff([]any{test.id, test.source, wantWithin, test.want}, []any{test.event.ID(), test.event.Source(), within, got}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if _, err := NoticeOf(test.event, "another"); err == nil {
				t.Error("it was taken for another")
			}
		})
	}
	if _, err := NoticeOf(Reported("bridge", "", "c", at), ReportedType); err == nil || err.Error() != "event -reported names no run" {
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
		"it waits":        {job: job("a", Waiting), phase: Waiting, active: true},
		"it runs":         {job: job("a", Running), phase: Running, active: true},
		"it has ended":    {job: job("a", Succeeded), phase: Succeeded},
		"it has failed":   {job: failed, phase: Failed},
		"it was given up": {job: *givenUp(), phase: Failed},
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
