package watcher

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// slowPods are pods in a namespace with so many objects that reading them takes long.
type slowPods struct {
	pods

	listing, searching time.Duration
	// searches counts the searches for events, and cancelled the lists of pods that were cancelled.
	searches, cancelled atomic.Int32
}

func (p *slowPods) List(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	if err := pass(ctx, p.listing); err != nil {
		p.cancelled.Add(1)
		return nil, err
	}
	return p.pods.List(ctx, job)
}

func (p *slowPods) Events(ctx context.Context, namespace string, of types.UID) ([]corev1.Event, error) {
	p.searches.Add(1)
	if err := pass(ctx, p.searching); err != nil {
		return nil, err
	}
	return p.pods.Events(ctx, namespace, of)
}

// pass waits for a duration, or until the context ends.
func pass(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
		return nil
	}
}

// The API server reads a whole namespace for each search. After an hour with 800 tasks, that is 6,000 events.
func TestSearchesForEventsDelayNoResult(t *testing.T) {
	late := pod(exited("task", 0))
	late.Status.ContainerStatuses[0].State.Terminated.StartedAt = at(120)
	for _, phase := range []run.Phase{run.Succeeded, run.Failed} {
		t.Run(string(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fakes := &world{pods: map[string][]corev1.Pod{"one": {late, late, late}, "two": {late, late, late}}}
				for _, name := range []string{"one", "two"} {
					ended := job(name, phase)
					ended.Status.StartTime = new(at(1))
					fakes.jobs = append(fakes.jobs, ended)
				}
				slow := &slowPods{pods: pods{fakes}, searching: 4 * time.Second}
				w := newWatcher(fakes, sdktrace.NewTracerProvider())
				w.Pods = slow
				ctx, span := w.Tracer.Start(t.Context(), "watcher")
				defer span.End()
				began := time.Now()
				reply, err := w.Handle(ctx, protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
				if err != nil || reply == nil {
					t.Fatalf("got %v, %v", reply, err)
				}
				if took := time.Since(began); took > searchTimeout || slow.searches.Load() < 2 {
					t.Errorf("it took %s, with %d searches", took, slow.searches.Load())
				}
			})
		})
	}
}

// The message names the command that shows the events.
func TestEventsThatCanNotBeReadAreMentioned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		starting := []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "one-x"}}}
		fakes := &world{jobs: []batchv1.Job{job("one", run.Running)}, pods: map[string][]corev1.Pod{"one": starting}}
		w := newWatcher(fakes, sdktrace.NewTracerProvider())
		w.Pods = &slowPods{pods: pods{fakes}, searching: 2 * searchTimeout}
		w.Now = func() time.Time { return noon.Add(5 * time.Minute) }
		if reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobUnstarted, noon)); err != nil || reply == nil {
			t.Fatalf("got %v, %v", reply, err)
		}
		const want = "The pod did not start within 4m59s. Its events could not be read; they may say why: " +
			"kubectl describe --namespace jobs job/one pod/one-x"
		if difference := cmp.Diff(want, fakes.jobs[0].Annotations[run.FailureAnnotation]); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
	})
}

// When a node is full, the pods of many Jobs say so themselves.
func TestPodThatSaysWhyItWaitsNeedsNoEvents(t *testing.T) {
	full := corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available"},
	}}}
	tests := []struct {
		name string
		pods []corev1.Pod
		want int32
	}{
		{name: "it has no node", pods: []corev1.Pod{full}, want: 0},
		{name: "it has a node", pods: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{UID: "pod"}}}, want: 2},
		{name: "there is none", want: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakes := &world{jobs: []batchv1.Job{job("one", run.Running)}, pods: map[string][]corev1.Pod{"one": test.pods}}
			slow := &slowPods{pods: pods{fakes}}
			w := newWatcher(fakes, sdktrace.NewTracerProvider())
			w.Pods = slow
			reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobPending, noon))
			if err != nil || reply == nil {
				t.Fatalf("got %v, %v", reply, err)
			}
			if got := slow.searches.Load(); got != test.want {
				t.Errorf("%d searches, want %d", got, test.want)
			}
		})
	}
}

// Otherwise runs whose turn comes late are cancelled while they are read, and repeated. They take the time of others,
// until no run is finished.
func TestRunWhoseTurnComesHasTimeEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total, atATime, deadline, pause = 20, 4, 85 * time.Second, 10 * time.Second
		fakes := &world{jobs: []batchv1.Job{job("one", run.Succeeded)}, pods: map[string][]corev1.Pod{"one": {pod(exited("task", 0))}}}
		slow := &slowPods{pods: pods{fakes}, listing: 50 * time.Second}
		w := newWatcher(fakes, sdktrace.NewTracerProvider())
		w.Pods, w.Memory, w.MinWeight = slow, semaphore.NewWeighted(maxReported), maxReported/atATime
		group, ctx := errgroup.WithContext(t.Context())
		for range total {
			group.Go(func() error { // the Broker sends it again
				for ctx.Err() == nil {
					handling, cancel := context.WithTimeout(ctx, deadline)
					_, err := w.Handle(handling, protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
					cancel()
					if err == nil {
						return nil
					}
					time.Sleep(pause)
				}
				return ctx.Err()
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := slow.cancelled.Load(); got > 0 {
			t.Errorf("%d runs were cancelled while they were read", got)
		}
	})
}
