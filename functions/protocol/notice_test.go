package protocol

import (
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/run"
)

// Each notice has a type, a source, data, and an id that a resend does not change.
func TestNotices(t *testing.T) {
	at := time.Unix(1000, 5e6)
	const plan = `[{"namespace":"jobs","name":"a"},{"namespace":"jobs","name":"b"}]`
	job := func(name string, phase run.Phase, annotations ...string) *batchv1.Job {
		job := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "jobs", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{run.EventIDLabel: "run"},
				Annotations: map[string]string{run.TaskAnnotation: `{"name":"test","context":"c"}`, run.PlanAnnotation: plan},
			},
			Spec: batchv1.JobSpec{Suspend: new(phase == run.Waiting)},
		}
		for index := 0; index < len(annotations); index += 2 {
			job.Annotations[annotations[index]] = annotations[index+1]
		}
		condition := batchv1.JobConditionType("")
		switch phase {
		case run.Succeeded:
			condition = batchv1.JobComplete
		case run.Failed:
			condition = batchv1.JobFailed
		default:
			return job
		}
		job.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at)}}
		return job
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
			event:  Completed(job("a", run.Running), JobDeleted, at),
			id:     "uid-a-deleted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Deleted: true},
		},
		{
			name:   "a Job cannot start",
			event:  Completed(job("a", run.Running), JobUnstarted, at),
			id:     "uid-a-unstarted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Unstarted: true},
		},
		{
			name:   "a silent Job finished",
			event:  Completed(job("a", run.Succeeded, run.SilentAnnotation, "true"), JobFinished, at),
			id:     "uid-a-completed",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Task: []byte(task), Silent: true},
		},
		{
			name:   "its task cannot be read",
			event:  Completed(job("a", run.Running, run.TaskAnnotation, "{"), JobDeleted, at),
			id:     "uid-a-deleted",
			source: source,
			want:   Notice{RunID: "run", Job: "a", Deleted: true},
		},
		{
			name:   "it is being created",
			event:  Active([]*batchv1.Job{job("b", run.Waiting)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task)},
		},
		{
			name:   "its first Job exists",
			event:  Active([]*batchv1.Job{job("a", run.Waiting), job("b", run.Waiting)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true},
		},
		{
			name:   "its first Job is deleted, and the second runs",
			event:  Active([]*batchv1.Job{job("b", run.Running)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true},
		},
		{
			name:   "it has ended",
			event:  Active([]*batchv1.Job{job("a", run.Succeeded), job("b", run.Failed)}, at),
			id:     "run-active-1000",
			source: source,
			want:   Notice{RunID: "run", Task: []byte(task), Begun: true, Ended: true},
		},
		{
			name:   "its result is requested",
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
			if test.name == "its task cannot be read" {
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
	if _, err := NoticeOf(Reported("bridge", "", "c", at), ReportedType); err == nil || err.Error() != "notice -reported has no run" {
		t.Errorf("got %v", err)
	}
}

func TestCompletionIsTheSameEachTime(t *testing.T) {
	finished := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "a", UID: "uid", Labels: map[string]string{run.EventIDLabel: "run"}},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{
			Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0)),
		}}},
	}
	one, other := Completed(&finished, JobFinished, time.Unix(2000, 0)), Completed(&finished, JobFinished, time.Unix(3000, 0))
	if difference := cmp.Diff(one.String(), other.String()); difference != "" {
		t.Errorf("(-one +other):\n%s", difference)
	}
}
