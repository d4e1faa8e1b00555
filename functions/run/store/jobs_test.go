package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/run"
)

func job(name string, phase run.Phase) batchv1.Job {
	created := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   "jobs",
			Name:        name,
			UID:         types.UID("uid-" + name),
			Labels:      map[string]string{run.EventIDLabel: "run"},
			Annotations: map[string]string{run.TTLAnnotation: "60"},
		},
		Spec: batchv1.JobSpec{Suspend: new(phase == run.Waiting)},
	}
	condition := batchv1.JobCondition{Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0).UTC())}
	switch phase {
	case run.Succeeded:
		condition.Type = batchv1.JobComplete
	case run.Failed:
		condition.Type, condition.Reason, condition.Message = batchv1.JobFailed, "BackoffLimitExceeded", "it failed"
	default:
		return created
	}
	// A condition before the last one is not the end.
	created.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, condition}
	return created
}

// A finished Job is patched once.
func TestReportedJobExpires(t *testing.T) {
	broken := job("broken", run.Succeeded)
	broken.Annotations[run.TTLAnnotation] = "soon"
	tests := []struct {
		name string
		job  batchv1.Job
		want *int32
	}{
		{name: "after its end", job: job("a", run.Succeeded), want: new(int32(180))},
		{name: "not while it runs", job: job("a", run.Running)},
		{name: "not with an invalid TTL", job: broken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			jobs := &Jobs{Client: clientset.Of(fake.NewClientset(&test.job))}
			if err := jobs.MarkReported(t.Context(), &test.job, run.FinishedAt(&test.job)); err != nil {
				t.Fatal(err)
			}
			got, err := jobs.Client.Jobs("jobs").Get(t.Context(), test.job.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, got.Spec.TTLSecondsAfterFinished); difference != "" || !run.IsReported(got) {
				t.Errorf("reported: %t, seconds (-want +got):\n%s", run.IsReported(got), difference)
			}
		})
	}
}

func TestQueuedJobIsAdmitted(t *testing.T) {
	waiting := job("a", run.Waiting)
	run.Queue(&waiting, time.Unix(7, 5))
	jobs := &Jobs{Client: clientset.Of(fake.NewClientset(&waiting)), Namespaces: []string{"jobs"}, Installation: "ours"}
	if !run.IsQueued(&waiting) || !run.QueuedAt(&waiting).Equal(time.Unix(7, 5)) {
		t.Errorf("it is not queued, but %v", waiting.Annotations)
	}
	for range 2 {
		if err := jobs.Admit(t.Context(), &waiting); err != nil {
			t.Fatal(err)
		}
	}
	admitted, err := jobs.Client.Jobs("jobs").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if run.IsQueued(admitted) || run.PhaseOf(admitted) != run.Running || !run.QueuedAt(admitted).IsZero() || admitted.Annotations[run.AdmittedAnnotation] == "" {
		t.Errorf("got %s, %v", run.PhaseOf(admitted), admitted.Annotations)
	}
}

func TestJobsCanBeChangedAgainWithoutEffect(t *testing.T) {
	ctx := t.Context()
	first := job("a", run.Waiting)
	first.Labels[run.ManagedByLabel], first.Labels[run.InstanceLabel] = run.ManagedBy, "ours"
	jobs := &Jobs{Client: clientset.Of(fake.NewClientset()), Namespaces: []string{"jobs", "others"}, Installation: "ours"}
	for range 2 {
		if _, err := jobs.Create(ctx, &first); err != nil {
			t.Fatal(err)
		}
		if err := jobs.Resume(ctx, &first); err != nil {
			t.Fatal(err)
		}
		if err := jobs.MarkReported(ctx, &first, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		if err := jobs.Expire(ctx, &first, run.FinishedAt(&first)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := jobs.List(ctx, "run")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || *found[0].Spec.Suspend || !run.IsReported(&found[0]) || *found[0].Spec.TTLSecondsAfterFinished != 180 {
		t.Errorf("got %+v", found)
	}
	for range 2 {
		if err := jobs.Delete(ctx, &first); err != nil {
			t.Fatal(err)
		}
		// A deleted Job needs no change.
		if err := jobs.MarkReported(ctx, &first, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := jobs.List(ctx, "run"); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v", left, err)
	}
}

// Kubernetes counts from the Job's end. A delivery in flight must still find the Job.
func TestJobOutlivesDeliveriesInFlight(t *testing.T) {
	ended := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name     string
		ttl      string
		reported time.Duration
		want     int32
	}{
		{name: "its TTL is long enough", ttl: "21600", reported: time.Minute, want: 21600},
		{name: "its TTL is short", ttl: "60", want: 180},
		{name: "it was reported late", ttl: "60", reported: time.Hour, want: 3780},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			finished := job("a", run.Succeeded)
			finished.Annotations = map[string]string{run.TTLAnnotation: test.ttl}
			finished.Status.Conditions[1].LastTransitionTime.Time = ended
			client := clientset.Of(fake.NewClientset(&finished))
			if err := (&Jobs{Client: client}).Expire(t.Context(), &finished, ended.Add(test.reported)); err != nil {
				t.Fatal(err)
			}
			changed, err := client.Jobs("jobs").Get(t.Context(), "a", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := *changed.Spec.TTLSecondsAfterFinished; got != test.want {
				t.Errorf("got %d seconds, want %d", got, test.want)
			}
		})
	}
}

// Only the Job that was read is changed, or deleted with its pods, and not another one
// that has its name by now.
func TestOnlyTheJobThatWasReadIsChanged(t *testing.T) {
	read := job("a", run.Running)
	read.UID = "uid"
	client := fake.NewClientset(&read)
	jobs := &Jobs{Client: clientset.Of(client), Namespaces: []string{"jobs"}, Installation: "ours"}
	givenUp := jobs.GiveUp(t.Context(), &read, "why", time.Unix(0, 0))
	if err := errors.Join(givenUp, jobs.Resume(t.Context(), &read), jobs.Delete(t.Context(), &read)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, action := range client.Actions() {
		switch action := action.(type) {
		case clienttesting.PatchAction:
			got = append(got, string(action.GetPatch()))
		case clienttesting.DeleteAction:
			options := action.GetDeleteOptions()
			got = append(got, string(*options.PropagationPolicy)+" "+string(*options.Preconditions.UID))
		}
	}
	want := []string{
		`{"metadata":{"annotations":{"job-executor.github.io/failed-at":"1970-01-01T00:00:00Z","job-executor.github.io/failure":"why"},` +
			`"uid":"uid"},"spec":{"suspend":true}}`,
		`{"metadata":{"uid":"uid"},"spec":{"suspend":false}}`,
		"Background uid",
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Two installations may share a namespace; none touches the other's Jobs.
func TestInstallationsAreSeparate(t *testing.T) {
	theirs := job("a", run.Running)
	theirs.Labels[run.ManagedByLabel], theirs.Labels[run.InstanceLabel] = run.ManagedBy, "theirs"
	jobs := &Jobs{Client: clientset.Of(fake.NewClientset(&theirs)), Namespaces: []string{"jobs"}, Installation: "ours"}
	found, err := jobs.List(t.Context(), "run")
	if err != nil || len(found) != 0 {
		t.Errorf("got %v, %v", found, err)
	}
	ours := job("a", run.Running)
	if _, err := jobs.Create(
		t.Context(),
		&ours,
	); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), `installation "theirs" has a Job of this name`) {
		t.Errorf("got %v", err)
	}
}

// A deleted namespace, or one without roles, does not block runs without Jobs in it.
func TestABrokenNamespaceDoesNotBlockOthers(t *testing.T) {
	there := job("a", run.Running)
	there.Labels[run.ManagedByLabel], there.Labels[run.InstanceLabel] = run.ManagedBy, "ours"
	for name, test := range map[string]struct {
		plan string
		fail bool
	}{
		"it is in others":    {`[{"namespace":"jobs","name":"a"}]`, false},
		"one is in this one": {`[{"namespace":"jobs","name":"a"},{"namespace":"broken","name":"b"}]`, true},
	} {
		t.Run(name, func(t *testing.T) {
			planned := there.DeepCopy()
			planned.Annotations[run.PlanAnnotation] = test.plan
			client := fake.NewClientset(planned)
			client.PrependReactor("list", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
				return action.GetNamespace() == "broken", nil, apierrors.NewForbidden(batchv1.Resource("jobs"), "", errors.New("no role"))
			})
			jobs := &Jobs{Client: clientset.Of(client), Namespaces: []string{"broken", "jobs"}, Installation: "ours"}
			found, err := jobs.List(t.Context(), "run")
			if refused := new(RefusedError); errors.As(err, &refused) != test.fail || err != nil && !test.fail || len(found) != 1 {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}
