package jobsource

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/run"
)

type state struct {
	name                         string
	finished, delivered, expires bool
}

func job(state state) *batchv1.Job {
	made := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: "jobs", Name: state.name, UID: "uid",
		Labels:      map[string]string{run.ManagedByLabel: run.ManagedBy, run.EventIDLabel: "run"},
		Annotations: map[string]string{run.TTLAnnotation: "60"},
	}}
	if state.finished {
		made.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	}
	if state.delivered {
		made.Annotations[run.DeliveredAnnotation] = "2026-11-24T12:00:00Z"
	}
	if state.expires {
		made.Spec.TTLSecondsAfterFinished = new(int32(60))
	}
	return made
}

// broker refuses the first events, and keeps the ids of those it takes.
type broker struct {
	mutex  sync.Mutex
	refuse int
	taken  []string
}

var errRefused = errors.New("503")

func (broker *broker) Send(_ context.Context, outgoing event.Event) error {
	broker.mutex.Lock()
	defer broker.mutex.Unlock()
	if broker.refuse > 0 {
		broker.refuse--
		return errRefused
	}
	broker.taken = append(broker.taken, outgoing.Subject())
	return nil
}

type marker struct{ marked, expired []string }

func (marker *marker) MarkDelivered(_ context.Context, job *batchv1.Job, _ time.Time) error {
	marker.marked = append(marker.marked, job.Name)
	return nil
}

func (marker *marker) Expire(_ context.Context, job *batchv1.Job, _ time.Time) error {
	marker.expired = append(marker.expired, job.Name)
	return nil
}

func newSource(broker *broker, marker Marker, objects ...runtime.Object) *Source {
	return &Source{
		Client: fake.NewClientset(objects...), Namespaces: []string{"jobs"}, Sender: broker, Marker: marker,
		Tracer: noop.NewTracerProvider().Tracer(""), Propagator: propagation.TraceContext{},
		ActiveInterval: time.Minute, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func TestReconcile(t *testing.T) {
	type outcome struct{ Sent, Marked, Expired []string }
	tests := []struct {
		name   string
		run    []state
		refuse int
		want   outcome
		err    error
	}{
		{"a Job that runs is left alone", []state{{name: "a"}}, 0, outcome{}, nil},
		{"a finished Job is sent, then marked", []state{{name: "a", finished: true}}, 0, outcome{Sent: []string{"a"}, Marked: []string{"a"}}, nil},
		{"what the Broker refuses is not marked", []state{{name: "a", finished: true}}, 1, outcome{}, errRefused},
		{"a marked Job is not sent again, but expires", []state{{name: "a", finished: true, delivered: true}}, 0, outcome{Expired: []string{"a"}}, nil},
		{"not before all of its run are marked", []state{{name: "a", finished: true, delivered: true}, {name: "b", finished: true}}, 0, outcome{Sent: []string{"b"}, Marked: []string{"b"}}, nil},
		{"nor before all have finished", []state{{name: "a", finished: true, delivered: true}, {name: "b"}}, 0, outcome{}, nil},
		{"then all of them", []state{{name: "a", finished: true, delivered: true}, {name: "b", finished: true, delivered: true}, {name: "c", finished: true, delivered: true, expires: true}}, 0, outcome{Expired: []string{"a", "b"}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broker, marker := &broker{refuse: test.refuse}, &marker{}
			var siblings []*batchv1.Job
			for _, state := range test.run {
				siblings = append(siblings, job(state))
			}
			err := newSource(broker, marker).Reconcile(t.Context(), siblings)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if difference := cmp.Diff(test.want, outcome{broker.taken, marker.marked, marker.expired}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A Job that finished while nobody watched is found at the start; one that the
// Broker refuses is sent again; both are marked and expire.
func TestRunDeliversEveryCompletion(t *testing.T) {
	broker := &broker{refuse: 1}
	source := newSource(broker, nil, job(state{name: "before", finished: true}))
	jobs := source.Client.BatchV1().Jobs("jobs")
	source.Marker = &run.Store{Batch: source.Client.BatchV1(), Namespaces: source.Namespaces}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()

	expires := func(name string) {
		t.Helper()
		for {
			found, err := jobs.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if run.IsDelivered(found) && found.Spec.TTLSecondsAfterFinished != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	expires("before")
	later := job(state{name: "later", finished: true})
	later.Labels[run.EventIDLabel] = "another run"
	if _, err := jobs.Create(ctx, later, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expires("later")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if difference := cmp.Diff([]string{"before", "later"}, broker.taken); difference != "" {
		t.Errorf("sent (-want +got):\n%s", difference)
	}
}

func TestActiveRunsAreNamedOnceEach(t *testing.T) {
	waiting, silent, other := job(state{name: "waiting"}), job(state{name: "silent"}), job(state{name: "other"})
	waiting.Spec.Suspend = new(true)
	silent.Labels[run.EventIDLabel], silent.Annotations[run.SilentAnnotation] = "silent run", "true"
	other.Labels[run.EventIDLabel] = "other run"
	ended := job(state{name: "ended", finished: true})
	ended.Labels[run.EventIDLabel] = "ended run"
	var named [][]string
	for _, active := range activeRuns([]*batchv1.Job{waiting, job(state{name: "done", finished: true}), other, silent, ended}) {
		var names []string
		for _, job := range active {
			names = append(names, job.Name)
		}
		named = append(named, names)
	}
	if difference := cmp.Diff([][]string{{"other"}, {"done", "waiting"}}, named); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
