package run

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func job(name string, phase Phase) batchv1.Job {
	created := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   "jobs",
			Name:        name,
			UID:         types.UID("uid-" + name),
			Labels:      map[string]string{EventIDLabel: "run"},
			Annotations: map[string]string{TTLAnnotation: "60"},
		},
		Spec: batchv1.JobSpec{Suspend: new(phase == Waiting)},
	}
	condition := batchv1.JobCondition{Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0).UTC())}
	switch phase {
	case Succeeded:
		condition.Type = batchv1.JobComplete
	case Failed:
		condition.Type, condition.Reason, condition.Message = batchv1.JobFailed, "BackoffLimitExceeded", "it failed"
	default:
		return created
	}
	// A condition before the last one is not the end.
	created.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, condition}
	return created
}

func TestNext(t *testing.T) {
	// planned are the Jobs a to c, some of which exist.
	planned := func(jobs ...batchv1.Job) []batchv1.Job {
		for index := range jobs {
			jobs[index].Annotations[PlanAnnotation] = `[{"namespace":"jobs","name":"a","task":"A"},{"namespace":"jobs","name":"b","task":"B"},` +
				`{"namespace":"jobs","name":"c","task":"C"}]`
		}
		return jobs
	}
	// actions are the Jobs a and b of one action, c of another, and d of a third, which alone reports.
	actions := func(jobs ...batchv1.Job) []batchv1.Job {
		for index := range jobs {
			jobs[index].Annotations[PlanAnnotation] = `[{"namespace":"jobs","name":"a","task":"A"},{"namespace":"jobs","name":"b","task":"B"},` +
				`{"namespace":"jobs","name":"c","task":"C","action":1},{"namespace":"jobs","name":"d","task":"D","action":3,"reports":true}]`
		}
		return jobs
	}
	// parallel are the Jobs a to c of one parallel action, and d of another action.
	parallel := func(jobs ...batchv1.Job) []batchv1.Job {
		for index := range jobs {
			jobs[index].Annotations[PlanAnnotation] = `[{"namespace":"jobs","name":"a","task":"A","parallel":true},` +
				`{"namespace":"jobs","name":"b","task":"B","parallel":true},` +
				`{"namespace":"jobs","name":"c","task":"C","parallel":true},{"namespace":"jobs","name":"d","task":"D","action":1}]`
		}
		return jobs
	}
	givenUp := job("a", Waiting)
	givenUp.Annotations[FailureAnnotation] = "no image"
	queued := job("a", Waiting)
	Queue(&queued, time.Unix(0, 1))
	lost := job("a", Running)
	lost.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, Reason: "DeadlineExceeded"}}
	type outcome struct {
		Ended                                  bool
		Resume, Ran, Silent, Missing, Unneeded []string
	}
	tests := []struct {
		name  string
		jobs  []batchv1.Job
		begun bool
		want  outcome
	}{
		{name: "a run without Jobs needs nothing", want: outcome{}},
		{name: "a running Job needs nothing", jobs: []batchv1.Job{job("a", Running), job("b", Waiting)}, want: outcome{}},
		{
			name: "a success starts the next Job",
			jobs: []batchv1.Job{job("a", Succeeded), job("b", Waiting), job("c", Waiting)},
			want: outcome{Resume: []string{"b"}, Ran: []string{"a"}},
		},
		{name: "the next one runs already", jobs: []batchv1.Job{job("a", Succeeded), job("b", Running)}, want: outcome{Ran: []string{"a"}}},
		{
			name: "the last success ends the run",
			jobs: []batchv1.Job{job("a", Succeeded), job("b", Succeeded)},
			want: outcome{Ended: true, Ran: []string{"a", "b"}},
		},
		{
			name: "the first failure ends the run",
			jobs: []batchv1.Job{job("a", Succeeded), job("b", Failed), job("c", Waiting)},
			want: outcome{Ended: true, Ran: []string{"a", "b"}, Unneeded: []string{"c"}},
		},
		{
			name: "a Job given up has failed",
			jobs: []batchv1.Job{givenUp, job("b", Waiting)},
			want: outcome{Ended: true, Ran: []string{"a"}, Unneeded: []string{"b"}},
		},
		{
			name: "a Job failed by Kubernetes has failed, though its node is lost",
			jobs: []batchv1.Job{lost, job("b", Waiting)},
			want: outcome{Ended: true, Ran: []string{"a"}, Unneeded: []string{"b"}},
		},
		{
			name: "a deleted waiting Job ends the run at its turn",
			jobs: planned(job("a", Succeeded), job("c", Waiting)),
			want: outcome{Ended: true, Missing: []string{"b"}, Ran: []string{"a"}, Unneeded: []string{"c"}},
		},
		{name: "a deleted waiting Job does not end the run before its turn", jobs: planned(job("a", Running), job("c", Waiting)), want: outcome{}},
		{
			name: "a deleted last Job is not a success",
			jobs: planned(job("a", Succeeded), job("b", Succeeded)),
			want: outcome{Ended: true, Missing: []string{"c"}, Ran: []string{"a", "b"}},
		},
		{
			name:  "a deleted first Job ends the run",
			jobs:  planned(job("b", Waiting), job("c", Waiting)),
			begun: true,
			want:  outcome{Ended: true, Missing: []string{"a"}, Unneeded: []string{"b", "c"}},
		},
		{name: "a started run misses its first Job", jobs: planned(job("b", Waiting), job("c", Waiting)), want: outcome{}},
		{
			name: "a run with a later Job misses its first Job",
			jobs: planned(job("b", Succeeded), job("c", Waiting)),
			want: outcome{Ended: true, Missing: []string{"a"}, Unneeded: []string{"b", "c"}},
		},
		{
			name: "a Job resumed by others may end first",
			jobs: planned(job("a", Running), job("b", Succeeded), job("c", Waiting)),
			want: outcome{},
		},
		{
			name: "the run continues after a Job resumed by others",
			jobs: planned(job("a", Succeeded), job("b", Succeeded), job("c", Waiting)),
			want: outcome{Resume: []string{"c"}, Ran: []string{"a", "b"}},
		},
		{
			name: "a failure ends its action and starts the next one",
			jobs: actions(job("a", Failed), job("b", Waiting), job("c", Waiting), job("d", Waiting)),
			want: outcome{Resume: []string{"c"}, Ran: []string{"a"}, Silent: []string{"a"}},
		},
		{
			name: "a missing Job ends its action and starts the next one",
			jobs: actions(job("a", Succeeded), job("c", Succeeded), job("d", Waiting)),
			want: outcome{Resume: []string{"d"}, Ran: []string{"a", "c"}, Silent: []string{"a", "c"}, Missing: []string{"b"}},
		},
		{
			name: "a running Job of a later action needs nothing",
			jobs: actions(job("a", Failed), job("b", Waiting), job("c", Running), job("d", Waiting)),
			want: outcome{Ran: []string{"a"}, Silent: []string{"a"}},
		},
		{
			name: "the end of the last action ends the run",
			jobs: actions(job("a", Failed), job("b", Waiting), job("d", Succeeded)),
			want: outcome{Ended: true, Ran: []string{"a", "d"}, Silent: []string{"a"}, Missing: []string{"c"}, Unneeded: []string{"b"}},
		},
		{
			name: "parallel Jobs start with the first one",
			jobs: parallel(job("a", Running), job("b", Waiting), job("c", Waiting), job("d", Waiting)),
			want: outcome{Resume: []string{"b", "c"}},
		},
		{
			name: "parallel Jobs wait for the first one",
			jobs: parallel(job("b", Waiting), job("c", Waiting), job("d", Waiting)),
			want: outcome{},
		},
		{
			name: "parallel Jobs wait while the run is queued",
			jobs: parallel(queued, job("b", Waiting), job("c", Waiting), job("d", Waiting)),
			want: outcome{},
		},
		{
			name: "a Job deleted while queued is missing", begun: true,
			jobs: planned(job("b", Waiting), job("c", Waiting)),
			want: outcome{Ended: true, Missing: []string{"a"}, Unneeded: []string{"b", "c"}},
		},
		{
			name: "an interrupted start continues",
			jobs: parallel(job("a", Succeeded), job("b", Running), job("c", Waiting), job("d", Waiting)),
			want: outcome{Resume: []string{"c"}, Ran: []string{"a"}},
		},
		{
			name: "a failed parallel Job does not end the others",
			jobs: parallel(job("a", Failed), job("b", Running), job("c", Succeeded), job("d", Waiting)),
			want: outcome{Ran: []string{"a", "c"}},
		},
		{
			name: "the next action starts when all parallel Jobs ended",
			jobs: parallel(job("a", Failed), job("c", Succeeded), job("d", Waiting)),
			want: outcome{Resume: []string{"d"}, Ran: []string{"a", "c"}, Missing: []string{"b"}},
		},
		{
			name: "a parallel action may be the last",
			jobs: parallel(job("a", Succeeded), job("b", Failed), job("c", Succeeded), job("d", Succeeded)),
			want: outcome{Ended: true, Ran: []string{"a", "b", "c", "d"}},
		},
		{
			name: "a first Job suspended by others needs nothing",
			jobs: planned(job("a", Waiting), job("b", Waiting), job("c", Waiting)),
			want: outcome{},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			step := Next(test.jobs, test.begun)
			got := outcome{Ended: step.Ended}
			for _, ran := range step.Ran {
				got.Ran = append(got.Ran, ran.Job.Name)
				if step.IsSilent(ran.Planned) {
					got.Silent = append(got.Silent, ran.Name)
				}
			}
			for _, planned := range step.Missing {
				got.Missing = append(got.Missing, planned.Name)
			}
			for _, job := range step.Unneeded {
				got.Unneeded = append(got.Unneeded, job.Name)
			}
			for _, job := range step.Resume {
				got.Resume = append(got.Resume, job.Name)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestPodsOfARunAreKnownByTheirNames(t *testing.T) {
	const id = "48b872a9-5c79-430f-bef2-3e5990627fa3"
	for pod, want := range map[string]bool{
		Name(id, 0, 0) + "-x7k2p": true, Name(id, 12, 345) + "-x7k2p": true, Name(id, 0, 0): false, Name(id, 0, 0) + "-": false,
		Name("other", 0, 0) + "-x7k2p": false, Name(id+"-000", 0, 0) + "-x7k2p": false, "job-" + id + "-x7k2p": false,
		"x-" + Name(id, 0, 0) + "-x7k2p": false, "": false, Name(id, 0, 0) + "-x7k2p-y": false,
	} {
		if got := IsPodOf(pod, id); got != want {
			t.Errorf("%q: got %v", pod, got)
		}
	}
}

func TestNamesAreStableAndFitKubernetes(t *testing.T) {
	tests := []struct{ name, eventID, want string }{
		{name: "Keptn's UUIDs are unchanged", eventID: "48b872a9-5c79-430f-bef2-3e5990627fa3", want: "job-48b872a9-5c79-430f-bef2-3e5990627fa3-000-001"},
		{name: "a short id is unchanged", eventID: "a", want: "job-a-000-001"},
		{name: "an id invalid in names becomes a UUID", eventID: "Of/Somebody Else", want: "job-297732bb-09de-50e4-b528-abaeaa12445e-000-001"},
		{name: "an id that is too long becomes a UUID", eventID: strings.Repeat("a", 41), want: "job-8f96c836-d223-5fc4-87b7-68260c5015de-000-001"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Name(ID(test.eventID), 0, 1)
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			const longestLabel = 63
			if len(got) > longestLabel {
				t.Errorf("%s is too long for the label of its pods", got)
			}
		})
	}
}

func TestLabelValue(t *testing.T) {
	for text, want := range map[string]string{
		"Run locust tests": "Run_locust_tests", "-._äö!x-": "x", strings.Repeat("a", 70): strings.Repeat("a", 63), "": "",
	} {
		if got := LabelValue(text); got != want {
			t.Errorf("LabelValue(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestSortIsByActionThenTask(t *testing.T) {
	at := func(action, task string) batchv1.Job {
		return batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: action + "." + task, Labels: map[string]string{ActionIndexLabel: action, TaskIndexLabel: task}}}
	}
	jobs := []batchv1.Job{at("10", "0"), at("2", "10"), at("2", "9"), at("0", "0")}
	Sort(jobs)
	var got []string
	for _, job := range jobs {
		got = append(got, job.Name)
	}
	if difference := cmp.Diff([]string{"0.0", "2.9", "2.10", "10.0"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestWhatAJobSaysOfItself(t *testing.T) {
	failed := job("a", Failed)
	if reason, message := FailureOf(&failed); reason != "BackoffLimitExceeded" || message != "it failed" {
		t.Errorf("got %s, %s", reason, message)
	}
	reported := job("a", Succeeded)
	reported.Annotations[ReportedAnnotation] = "2026-11-24T12:00:00Z"
	if IsReported(&failed) || !IsReported(&reported) {
		t.Error("only a Job with the annotation is reported")
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
	created := job("a", Waiting)
	created.Annotations[FailureAnnotation] = "no image"
	return &created
}
