package jobsource

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Marker changes Jobs, as store.Jobs does.
type Marker interface {
	MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error
	Expire(ctx context.Context, job *batchv1.Job, now time.Time) error
	Admit(ctx context.Context, job *batchv1.Job) error
}

// Source sends the completions of Jobs until their run is reported, that is, until the bridge says that Keptn
// has the result. The Broker's success says nothing: a Broker may lose an event that it accepted.
type Source struct {
	Client     cluster.Client
	Namespaces []string
	// Installation is the label of our Jobs.
	Installation string
	Sender       protocol.Sender
	Marker       Marker
	// ActiveInterval is the time between two announcements of a run.
	ActiveInterval time.Duration
	// StartDeadline is how long a Job's pod may take to start.
	StartDeadline time.Duration
	// MaxActiveRuns is how many runs of a project may be active at a time; 0 for no limit.
	MaxActiveRuns int
	Tracer        trace.Tracer
	Meter         metric.Meter
	// Events counts resent events. It may be nil.
	Events *telemetry.Counters
	Now    func() time.Time
	Log    *slog.Logger

	mutex sync.Mutex
	// namespaces are the watched namespaces by name.
	namespaces map[string]*watched
	// runs is the memory of unreported runs.
	runs map[string]remembered
}

const (
	// resync is when every run is reconciled again, in case a watch event was missed.
	resync = 5 * time.Minute
	// workers is how many completions are sent concurrently. A Broker over the in-memory channel answers only
	// after the watcher and the bridge did.
	workers = 64
	// firstRetry and lastRetry bound the pause after a failed attempt to send.
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
	// firstRepeat and lastRepeat bound the pause before a completion is resent while its run is not reported.
	firstRepeat = 10 * time.Second
	lastRepeat  = 2 * time.Minute
	// unsyncedPause is the pause before a run with Jobs in an unwatched namespace is reconciled again.
	unsyncedPause = 5 * time.Second
	// maxRuns bounds for how many runs a deleted Job is remembered. The bridge asks for the results of others.
	maxRuns = 10000
)

// Run watches Jobs and sends completions until the context ends. A namespace that cannot be watched, because it
// does not exist or has no roles yet, does not stop the others.
func (s *Source) Run(ctx context.Context) error {
	queue, projects := newQueue(), newQueue()
	namespaces := map[string]*watched{}
	var group sync.WaitGroup
	for _, namespace := range s.Namespaces {
		informer := s.informer(namespace)
		registration, err := informer.AddEventHandler(s.enqueue(queue, projects))
		if err != nil {
			return fmt.Errorf("watch Jobs in namespace %s: %w", namespace, err)
		}
		namespaces[namespace] = &watched{informer.GetIndexer(), registration.HasSynced, s.Now()}
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	s.mutex.Lock()
	s.namespaces = namespaces
	s.mutex.Unlock()
	s.observe()
	s.awaitSync(ctx)
	for range workers {
		group.Go(func() {
			for s.work(ctx, queue) {
			}
		})
	}
	group.Go(func() { s.admitAll(ctx, projects) })
	group.Go(func() { s.announceAll(ctx) })
	group.Go(func() { s.logUnwatched(ctx) })
	<-ctx.Done()
	queue.ShutDown()
	projects.ShutDown()
	group.Wait()
	return nil
}

func newQueue() workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))
}

func (s *Source) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) bool {
	runID, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(runID)
	again := unsyncedPause
	jobs, complete := s.jobsOf(runID)
	var err error
	if complete {
		again, err = s.Reconcile(ctx, runID, jobs)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "reconciling a run failed; retrying", "run", runID, "attempt", queue.NumRequeues(runID)+1, "error", err)
		queue.AddRateLimited(runID)
		return true
	}
	queue.Forget(runID)
	if again > 0 {
		queue.AddAfter(runID, again)
	}
	return true
}

// jobsOf returns the Jobs of a run in their order, and whether these are all: they are not while a planned namespace
// is not watched yet. A namespace that cannot be watched for the StartDeadline counts as deleted, with its Jobs.
func (s *Source) jobsOf(runID string) (jobs []*batchv1.Job, complete bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, namespace := range s.namespaces {
		objects, _ := namespace.store.ByIndex(byRun, runID) // it has this index
		for _, object := range objects {
			jobs = append(jobs, jobOf(object))
		}
	}
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	known := jobs
	if gone := s.runs[runID].gone; gone != nil {
		known = append(slices.Clone(jobs), gone)
	}
	for _, job := range known {
		for _, planned := range run.PlanOf(job) {
			if namespace := s.namespaces[planned.Namespace]; namespace != nil && s.awaits(namespace) {
				return jobs, false
			}
		}
	}
	return jobs, true
}

// awaits reports whether a namespace is not watched yet, but may be soon.
func (s *Source) awaits(namespace *watched) bool {
	return !namespace.synced() && s.Now().Sub(namespace.since) < s.StartDeadline
}

// jobs returns the Jobs of all watched namespaces.
func (s *Source) jobs() []*batchv1.Job {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var jobs []*batchv1.Job
	for _, namespace := range s.namespaces {
		for _, object := range namespace.store.List() {
			if job := jobOf(object); job != nil {
				jobs = append(jobs, job)
			}
		}
	}
	return jobs
}
