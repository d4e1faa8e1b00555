package jobsource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// indexed holds Jobs as an informer does.
func indexed(t *testing.T, jobs ...*batchv1.Job) cache.Indexer {
	t.Helper()
	created := cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexers())
	for _, job := range jobs {
		if err := created.Add(strip(job)); err != nil {
			t.Fatal(err)
		}
	}
	return created
}

func isSynced(is bool) cache.InformerSynced { return func() bool { return is } }

// failing is a marker that can't mark.
type failing struct{ marker }

func (failing) MarkReported(context.Context, *batchv1.Job, time.Time) error { return errRefused }

func TestReportedRunIsMarkedAndForgotten(t *testing.T) {
	tests := []struct {
		name   string
		marker Marker
		synced bool
		marked []string
		// remembered says that a deleted Job of the run is still remembered.
		remembered bool
		err        error
	}{
		{name: "an unmarked Job is marked", marker: &marker{}, synced: true, marked: []string{"b"}},
		{name: "a run is kept while some Jobs are unknown", marker: &marker{}, marked: []string{"b"}, remembered: true},
		{name: "a run is kept if a Job cannot be marked", marker: &failing{}, synced: true, remembered: true, err: errRefused},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := newSource(&broker{}, test.marker)
			done, other := job(state{name: "a", phase: run.Succeeded, reported: true}), job(state{name: "b", phase: run.Succeeded})
			other.Annotations[run.PlanAnnotation] = `[{"namespace":"jobs","name":"a"},{"namespace":"others","name":"b"}]`
			source.namespaces = map[string]*watched{
				"jobs": {indexed(t, done, other), isSynced(true), noon}, "others": {indexed(t), isSynced(test.synced), noon},
			}
			source.remember(job(state{name: "gone"}))
			_, err := source.Handle(t.Context(), protocol.Reported("bridge", "run", "c", noon))
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || function.IsPermanent(err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if marker, ok := test.marker.(*marker); ok {
				if difference := cmp.Diff(test.marked, marker.marked); difference != "" {
					t.Errorf("marked (-want +got):\n%s", difference)
				}
			}
			if remembered := source.recall("run", func(*remembered) {}).gone != nil; remembered != test.remembered {
				t.Errorf("remembered: %t", remembered)
			}
		})
	}
	if _, err := newSource(&broker{}, &marker{}).Handle(t.Context(), protocol.Cancelled("bridge", "run", "c", noon)); !function.IsPermanent(err) {
		t.Errorf("another event gives %v", err)
	}
}

// The first deleted Job that had begun is remembered: its deletion ended the run.
func TestOneDeletedJobOfARunIsRemembered(t *testing.T) {
	tests := []struct {
		name    string
		deleted []state
		want    string
	}{
		{name: "the first", deleted: []state{{name: "a", phase: run.Running}, {name: "b", phase: run.Running}}, want: "a"},
		{name: "an active run precedes a waiting one", deleted: []state{{name: "a", phase: run.Waiting}, {name: "b", phase: run.Running}}, want: "b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := newSource(&broker{}, &marker{})
			for _, deleted := range test.deleted {
				source.remember(job(deleted))
			}
			if got := source.recall("run", func(*remembered) {}).gone; got == nil || got.Name != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
}

// Once Keptn has the result of a run, its TTL deletes the Jobs, and jobsource can forget them.
func TestOnlyJobsOfUnreportedRunsAreRemembered(t *testing.T) {
	for _, reported := range []bool{false, true} {
		source := newSource(&broker{}, &marker{})
		queue, projects := workqueue.NewTyped[string](), workqueue.NewTyped[string]()
		deleted := job(state{name: "a", phase: run.Succeeded, reported: reported})
		source.enqueue(queue, projects).OnDelete(cache.DeletedFinalStateUnknown{Obj: deleted})
		if got := source.recall("run", func(*remembered) {}).gone; (got == nil) != reported {
			t.Errorf("reported: %t; remembered: %v", reported, got)
		}
		if queue.Len() != 1 || projects.Len() != 0 {
			t.Errorf("%d runs and %d projects are queued", queue.Len(), projects.Len())
		}
	}
}

func TestDeletedJobsOfSomeRunsOnlyAreRemembered(t *testing.T) {
	source := newSource(&broker{}, &marker{})
	for index := range maxRuns + 1 {
		deleted := job(state{name: "a"})
		deleted.Labels[run.EventIDLabel] = fmt.Sprint(index)
		source.remember(deleted)
	}
	if len(source.runs) != maxRuns {
		t.Errorf("%d are remembered", len(source.runs))
	}
}

func TestHasStarted(t *testing.T) {
	tests := []struct {
		name   string
		status batchv1.JobStatus
		want   bool
	}{
		{name: "nothing is known"},
		{name: "its pod is not ready", status: batchv1.JobStatus{Active: 1, Ready: new(int32(0))}},
		{name: "its pod is ready", status: batchv1.JobStatus{Active: 1, Ready: new(int32(1))}, want: true},
		{name: "one has succeeded", status: batchv1.JobStatus{Ready: new(int32(0)), Succeeded: 1}, want: true},
		{name: "one has failed", status: batchv1.JobStatus{Failed: 1}, want: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := hasStarted(&batchv1.Job{Status: test.status}); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// The log says that all is well, or what is wrong, but not every second.
func TestNamespacesThatCantBeWatchedAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		source := newSource(&broker{}, &marker{})
		source.Log = slog.New(slog.NewJSONHandler(&log, nil))
		var synced atomic.Bool
		began := time.Now()
		source.namespaces = map[string]*watched{
			"jobs": {indexed(t), isSynced(true), noon}, "others": {indexed(t), synced.Load, noon},
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			source.logUnwatched(t.Context())
		}()
		time.Sleep(100*time.Second + time.Second/2)
		synced.Store(true)
		<-done
		type entry struct {
			After      time.Duration
			Level      string
			Namespaces []string
		}
		var got []entry
		for decoder := json.NewDecoder(&log); decoder.More(); {
			var line struct {
				Time       time.Time
				Level      string
				Namespaces []string
			}
			if err := decoder.Decode(&line); err != nil {
				t.Fatal(err)
			}
			got = append(got, entry{line.Time.Sub(began).Round(time.Second), line.Level, line.Namespaces})
		}
		want := []entry{
			{10 * time.Second, "WARN", []string{"others"}}, {70 * time.Second, "WARN", []string{"others"}}, {101 * time.Second, "INFO", []string{"jobs"}},
		}
		if difference := cmp.Diff(want, got); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
	})
}

// Nobody confirms the result of a silent run, so its completion is not resent. Its Jobs show what happens
// before its end.
func TestCompletionOfASilentRunIsSentOnce(t *testing.T) {
	for how, want := range map[run.Phase]time.Duration{run.Succeeded: 0, run.Running: firstRepeat} {
		b := &broker{}
		source := newSource(b, &marker{})
		silent := job(state{name: "a", phase: how})
		silent.UID = types.UID("uid-a")
		silent.Annotations[run.SilentAnnotation] = "true"
		if how == run.Running {
			source.StartDeadline = 0 // it has not started in time
		}
		again, err := source.Reconcile(t.Context(), "run", []*batchv1.Job{silent})
		if err != nil || len(b.taken) != 1 || again != want {
			t.Errorf("%s: sent %v, again after %s, %v", how, b.taken, again, err)
		}
	}
}

// A run is reconciled after its own delay, after a failure, and otherwise only after a change.
func TestRunIsLookedAtAgainWhenItWantsTo(t *testing.T) {
	tests := []struct {
		name   string
		run    *batchv1.Job
		refuse int
		// again is when it is requeued, 0 for never.
		again time.Duration
	}{
		{name: "a Job that should have started", run: job(state{name: "a", phase: run.Running}), again: logWaitingAfter},
		{name: "an undelivered completion", run: job(state{name: "a", phase: run.Succeeded}), refuse: 1, again: firstRetry},
		{name: "a reported run", run: job(state{name: "a", phase: run.Succeeded, reported: true, expires: true})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := newSource(&broker{refuse: test.refuse}, &marker{})
				source.namespaces = map[string]*watched{"jobs": {indexed(t, test.run), isSynced(true), noon}}
				queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))
				defer queue.ShutDown()
				queue.Add("run")
				if !source.work(t.Context(), queue) {
					t.Fatal("it did no work")
				}
				began := time.Now()
				for queue.Len() == 0 && time.Since(began) < time.Hour {
					time.Sleep(time.Second / 10)
				}
				again := time.Since(began).Round(time.Second / 2)
				if queue.Len() == 0 {
					again = 0
				}
				if again != test.again {
					t.Errorf("after %s", again)
				}
			})
		})
	}
}

// Announcements begin at the start, and are repeated.
func TestUnreportedRunsAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &broker{refuse: 1} // the first attempt fails
		source := newSource(b, &marker{})
		began := time.Now()
		source.Now = func() time.Time { return noon.Add(time.Since(began)) }
		reported := job(state{name: "b", phase: run.Succeeded, reported: true})
		reported.Labels[run.EventIDLabel] = "reported"
		source.namespaces = map[string]*watched{"jobs": {indexed(t, job(state{name: "a", phase: run.Running}), reported), isSynced(true), noon}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			source.announceAll(ctx)
		}()
		time.Sleep(3*time.Hour + time.Minute)
		cancel()
		<-done
		var want []string
		for _, after := range []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour} {
			want = append(want, fmt.Sprintf("run-active-%d", noon.Add(after).Unix()))
		}
		if difference := cmp.Diff(want, b.taken); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
	})
}
