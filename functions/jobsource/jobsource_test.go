package jobsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
)

type state struct {
	name              string
	phase             run.Phase
	reported, expires bool
	plan              string
	// parallel says that the Jobs of the plan run at the same time.
	parallel bool
	// at is the end, noon by default.
	at time.Time
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func job(s state) *batchv1.Job {
	if s.at.IsZero() {
		s.at = noon
	}
	created := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: "jobs", Name: s.name, UID: types.UID("uid-" + s.name), CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)),
		Labels:      map[string]string{run.ManagedByLabel: run.ManagedBy, run.InstanceLabel: "ours", run.EventIDLabel: "run"},
		Annotations: map[string]string{run.TTLAnnotation: "60"},
	}}
	switch s.phase {
	case run.Waiting:
		created.Spec.Suspend = new(true)
	case run.Succeeded:
		created.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.at)}}
	case run.Running, run.Failed:
	}
	if s.plan != "" {
		var plan []run.Planned
		for _, name := range strings.Fields(s.plan) {
			plan = append(plan, run.Planned{Namespace: "jobs", Name: name, Parallel: s.parallel})
		}
		content, err := json.Marshal(plan)
		if err != nil {
			panic(err)
		}
		created.Annotations[run.PlanAnnotation] = string(content)
	}
	if s.reported {
		created.Annotations[run.ReportedAnnotation] = "2026-11-24T12:00:00Z"
	}
	if s.expires {
		created.Spec.TTLSecondsAfterFinished = new(int32(60))
	}
	return created
}

// broker refuses the first events, and records the ids of the others.
type broker struct {
	mutex  sync.Mutex
	refuse int
	taken  []string
}

var errRefused = errors.New("503")

func (b *broker) Send(_ context.Context, outgoing event.Event) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.refuse > 0 {
		b.refuse--
		return errRefused
	}
	b.taken = append(b.taken, strings.TrimPrefix(outgoing.ID(), "uid-"))
	return nil
}

type marker struct{ marked, expired []string }

func (m *marker) MarkReported(_ context.Context, job *batchv1.Job, _ time.Time) error {
	m.marked = append(m.marked, job.Name)
	return nil
}

func (m *marker) Expire(_ context.Context, job *batchv1.Job, _ time.Time) error {
	m.expired = append(m.expired, job.Name)
	return nil
}

func (*marker) Admit(context.Context, *batchv1.Job) error { return nil }

func newSource(b *broker, marker Marker, objects ...runtime.Object) *Source {
	return &Source{
		Client: clientset.Of(fake.NewClientset(objects...)), Namespaces: []string{"jobs"}, Installation: "ours", Sender: b, Marker: marker,
		Tracer: noop.NewTracerProvider().Tracer(""), StartDeadline: 5 * time.Minute, Meter: noopmetric.Meter{},
		ActiveInterval: time.Hour, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
	}
}

func TestReconcile(t *testing.T) {
	type outcome struct {
		Sent, Expired []string
		Again         time.Duration
	}
	const plan = "a b"
	tests := []struct {
		name   string
		run    []state
		gone   *state
		refuse int
		want   outcome
		err    error
	}{
		{
			name: "a running Job needs nothing until its start deadline",
			run:  []state{{name: "a", phase: run.Running}},
			want: outcome{Again: logWaitingAfter},
		},
		{
			name: "a completion is resent until its run is reported",
			run:  []state{{name: "a", phase: run.Succeeded}},
			want: outcome{Sent: []string{"a-completed"}, Again: firstRepeat},
		},
		{name: "a refusal of the Broker is an error", run: []state{{name: "a", phase: run.Succeeded}}, refuse: 1, want: outcome{}, err: errRefused},
		{
			name: "the last finished Job is sent",
			run:  []state{{name: "a", phase: run.Succeeded, plan: plan}, {name: "b", phase: run.Succeeded, plan: plan}},
			want: outcome{Sent: []string{"b-completed"}, Again: firstRepeat},
		},
		{
			name: "the Job before a waiting one is sent",
			run:  []state{{name: "a", phase: run.Succeeded, plan: plan}, {name: "b", phase: run.Waiting, plan: plan}},
			want: outcome{Sent: []string{"a-completed"}, Again: firstRepeat},
		},
		{
			name: "a deleted Job is sent",
			run:  []state{{name: "a", phase: run.Succeeded, plan: plan}},
			gone: &state{name: "b", plan: plan},
			want: outcome{Sent: []string{"b-deleted"}, Again: firstRepeat},
		},
		{name: "the only Job, deleted, is sent", gone: &state{name: "a"}, want: outcome{Sent: []string{"a-deleted"}, Again: firstRepeat}},
		{
			name: "a Job deleted before the watch is missing in the plan",
			run:  []state{{name: "a", phase: run.Succeeded, plan: plan}},
			want: outcome{Sent: []string{"a-deleted"}, Again: firstRepeat},
		},
		{
			name: "a run in creation needs nothing",
			run:  []state{{name: "b", phase: run.Waiting, plan: plan}},
			want: outcome{},
		},
		{
			name: "parallel Jobs are requested",
			run:  []state{{name: "a", phase: run.Running, plan: plan, parallel: true}, {name: "b", phase: run.Waiting, plan: plan, parallel: true}},
			want: outcome{Sent: []string{"a-begun"}, Again: firstRepeat},
		},
		{
			name: "parallel Jobs wait for the first one",
			run:  []state{{name: "b", phase: run.Waiting, plan: plan, parallel: true}},
			want: outcome{},
		},
		{
			name: "a reported run expires",
			run:  []state{{name: "a", phase: run.Succeeded, reported: true}, {name: "c", phase: run.Succeeded, reported: true, expires: true}},
			want: outcome{Expired: []string{"a"}},
		},
		{name: "a deleted run is forgotten", want: outcome{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, m := &broker{refuse: test.refuse}, &marker{}
			source := newSource(b, m)
			var siblings []*batchv1.Job
			for _, state := range test.run {
				siblings = append(siblings, job(state))
			}
			if test.gone != nil {
				source.remember(job(*test.gone))
			}
			again, err := source.Reconcile(t.Context(), "run", siblings)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if difference := cmp.Diff(test.want, outcome{b.taken, m.expired, again}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// Whatever Kubernetes' clock says, a pod has all of START_DEADLINE.
func TestJobThatDoesNotStartIsSent(t *testing.T) {
	b := &broker{}
	source := newSource(b, &marker{})
	now := noon
	source.Now = func() time.Time { return now }
	var sentAt []time.Duration
	for _, name := range []string{"a", "another one of its run"} {
		began := now
		for len(b.taken) < len(sentAt)+1 && now.Sub(began) < time.Hour {
			before := len(b.taken)
			if _, err := source.Reconcile(t.Context(), "run", []*batchv1.Job{job(state{name: name, phase: run.Running})}); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Second)
			if len(b.taken) > before && strings.HasSuffix(b.taken[before], protocol.JobPending) { // said once, for a person
				sentAt = append(sentAt, now.Sub(began))
			}
		}
		sentAt = append(sentAt, now.Sub(began))
	}
	want := []time.Duration{31 * time.Second, 5*time.Minute + time.Second, 31 * time.Second, 5*time.Minute + time.Second}
	if difference := cmp.Diff(want, sentAt); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Each concurrent Job has its own start deadline.
func TestEachOfSeveralJobsHasItsTimeToStart(t *testing.T) {
	b := &broker{}
	source := newSource(b, &marker{})
	first, second := job(state{name: "a", phase: run.Running, plan: "a b", parallel: true}), job(state{name: "b", phase: run.Running, plan: "a b", parallel: true})
	look := func(after time.Duration, jobs ...*batchv1.Job) time.Duration {
		source.Now = func() time.Time { return noon.Add(after) }
		again, err := source.Reconcile(t.Context(), "run", jobs)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	started := first.DeepCopy()
	started.Status.Ready = new(int32(1))
	looks := []time.Duration{
		look(0, first), look(time.Minute, first, second), look(2*time.Minute, started, second), look(6*time.Minute, started, second),
	}
	want := []time.Duration{logWaitingAfter, time.Second, time.Second, firstRepeat}
	if difference := cmp.Diff(want, looks); difference != "" {
		t.Errorf("looked at again (-want +got):\n%s", difference)
	}
	if difference := cmp.Diff([]string{"a-pending", "b-pending", "b-unstarted"}, b.taken); difference != "" {
		t.Errorf("sent (-want +got):\n%s", difference)
	}
}

// An unwatchable namespace counts as deleted after a while. Otherwise a run with Jobs in it would never end.
func TestRunIsLookedAtThoughANamespaceIsGone(t *testing.T) {
	there := job(state{name: "a", phase: run.Succeeded})
	there.Annotations[run.PlanAnnotation] = `[{"namespace":"jobs","name":"a"},{"namespace":"gone","name":"b"}]`
	source := newSource(&broker{}, &marker{})
	source.namespaces = map[string]*watched{"jobs": {indexed(t, there), isSynced(true), noon}, "gone": {indexed(t), isSynced(false), noon}}
	for later, want := range map[time.Duration]bool{0: false, time.Minute: false, source.StartDeadline: true} {
		source.Now = func() time.Time { return noon.Add(later) }
		jobs, complete := source.jobsOf("run")
		if complete != want || len(jobs) != 1 {
			t.Errorf("after %s: got %d Jobs, complete: %v", later, len(jobs), complete)
		}
	}
}

// A list that expires between two pages is read again page by page. As a whole it does not fit into memory.
func TestJobsAreListedInPagesOnly(t *testing.T) {
	source, client := newSource(&broker{}, &marker{}), fake.NewClientset()
	source.Client = clientset.Of(client)
	var limits []int64
	client.PrependReactor("list", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		limits = append(limits, action.(clienttesting.ListActionImpl).ListOptions.Limit)
		if len(limits) == 2 {
			return true, nil, apierrors.NewResourceExpired("too old")
		}
		return true, &batchv1.JobList{ListMeta: metav1.ListMeta{Continue: map[bool]string{true: "more"}[len(limits) == 1]}}, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	informer := source.informer("jobs")
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("it is never listed")
	}
	if difference := cmp.Diff([]int64{pageSize, pageSize, pageSize}, limits); difference != "" {
		t.Errorf("limits (-want +got):\n%s", difference)
	}
}

// Changes of the Jobs do not repeat a completion. It is resent with growing pauses until its run is reported.
func TestCompletionIsRepeatedUntilItIsReported(t *testing.T) {
	b := &broker{}
	source := newSource(b, &marker{})
	now := noon
	source.Now = func() time.Time { return now }
	jobs := []*batchv1.Job{job(state{name: "a", phase: run.Succeeded})}
	var sentAt []time.Duration
	for range 600 {
		before := len(b.taken)
		if _, err := source.Reconcile(t.Context(), "run", jobs); err != nil {
			t.Fatal(err)
		}
		if len(b.taken) > before {
			sentAt = append(sentAt, now.Sub(noon))
		}
		now = now.Add(time.Second)
	}
	seconds := func(numbers ...int) (all []time.Duration) {
		for _, number := range numbers {
			all = append(all, time.Duration(number)*time.Second)
		}
		return all
	}
	if difference := cmp.Diff(seconds(0, 10, 30, 70, 150, 270, 390, 510), sentAt); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// A Job that finished unwatched is found at the start. A refused completion is resent. Reported Jobs expire. An
// unwatchable namespace does not interfere.
func TestRunDeliversEveryCompletion(t *testing.T) {
	b := &broker{refuse: 1}
	source, client := newSource(b, nil), fake.NewClientset(job(state{name: "before", phase: run.Succeeded}))
	source.Client, source.Namespaces = clientset.Of(client), []string{"broken", "jobs"}
	client.PrependReactor("list", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return action.GetNamespace() == "broken", nil, apierrors.NewForbidden(batchv1.Resource("jobs"), "", errors.New("no role"))
	})
	jobs := source.Client.Jobs("jobs")
	source.Marker = &store.Jobs{Client: source.Client, Namespaces: source.Namespaces, Installation: "ours"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()

	expires := func(runID, name string) {
		t.Helper()
		for isReported := false; ; {
			found, err := jobs.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if run.IsReported(found) && found.Spec.TTLSecondsAfterFinished != nil {
				return
			}
			if !isReported && slices.Contains(b.sent(), name+"-completed") {
				reported := protocol.Reported("bridge", runID, "c", noon)
				if _, err := source.Handle(ctx, reported); err != nil {
					t.Fatal(err)
				}
				isReported = true
			}
			time.Sleep(time.Millisecond)
		}
	}
	expires("run", "before")
	later := job(state{name: "later", phase: run.Succeeded})
	later.Labels[run.EventIDLabel] = "another"
	if _, err := jobs.Create(ctx, later, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expires("another", "later")
	deleted := job(state{name: "deleted", phase: run.Running})
	deleted.Labels[run.EventIDLabel] = "third"
	if _, err := jobs.Create(ctx, deleted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		if known, _ := source.jobsOf("third"); len(known) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := jobs.Delete(ctx, "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for !slices.Contains(b.sent(), "deleted-deleted") && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	sent := slices.DeleteFunc(b.sent(), func(id string) bool { return strings.Contains(id, "active") })
	if difference := cmp.Diff([]string{"before-completed", "later-completed", "deleted-deleted"}, sent); difference != "" {
		t.Errorf("sent (-want +got):\n%s", difference)
	}
}

func (b *broker) sent() []string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return slices.Clone(b.taken)
}

// Thousands of finished Jobs are held for hours, so unused fields are removed.
func TestWhatIsHeldOfAJobIsSmall(t *testing.T) {
	whole := job(state{name: "a", phase: run.Succeeded, plan: "a b"})
	whole.Annotations["somebody.else/annotation"] = strings.Repeat("x", 1000)
	whole.Spec.Template.Spec.Containers = []corev1.Container{{Name: "task", Args: []string{strings.Repeat("x", 100000)}}}
	whole.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: strings.Repeat("x", 1000)}}
	if size := strip(whole).Size(); size > 1000 {
		t.Errorf("%d bytes are held", size)
	}
}

func TestActiveRunsAreNamedOnceEach(t *testing.T) {
	of := func(runID, name string, s state) *batchv1.Job {
		s.name = name
		created := job(s)
		created.Labels[run.EventIDLabel] = runID
		return created
	}
	var named [][]string
	for _, active := range activeRuns([]*batchv1.Job{
		of("run", "waiting", state{phase: run.Waiting}), of("run", "done", state{phase: run.Succeeded}), of("other", "other", state{phase: run.Running}),
		of("ended", "ended", state{phase: run.Succeeded}), of("reported", "reported", state{phase: run.Succeeded, reported: true}),
	}) {
		var names []string
		for _, job := range active {
			names = append(names, job.Name)
		}
		named = append(named, names)
	}
	if difference := cmp.Diff([][]string{{"ended"}, {"other"}, {"done", "waiting"}}, named); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// A run with a Job to come has no result yet.
func TestAgeOfTheOldestUnreportedRun(t *testing.T) {
	ended := func(minute int) state {
		return state{name: fmt.Sprint("ended-", minute), phase: run.Succeeded, at: noon.Add(time.Duration(minute) * time.Minute)}
	}
	tests := []struct {
		name string
		runs [][]state
		want time.Duration
	}{
		{name: "no run"},
		{name: "the last of its Jobs counts", runs: [][]state{{ended(1), ended(5), ended(3)}}, want: 5 * time.Minute},
		{name: "the oldest of all", runs: [][]state{{ended(4)}, {ended(2)}, {ended(3)}}, want: 8 * time.Minute},
		{name: "an active run does not count", runs: [][]state{{ended(4), {name: "b", phase: run.Running}}, {ended(2), {name: "b", phase: run.Waiting}}}},
		{name: "a run in the future does not count", runs: [][]state{{ended(11)}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var runs [][]*batchv1.Job
			for _, states := range test.runs {
				var jobs []*batchv1.Job
				for _, state := range states {
					jobs = append(jobs, job(state))
				}
				runs = append(runs, jobs)
			}
			if got := unreportedFor(runs, noon.Add(10*time.Minute)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
