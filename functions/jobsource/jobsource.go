package jobsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/run"
)

// Sender gives the Broker an event; it returns nil only after the Broker's 2xx.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Marker changes Jobs, as run.Store does.
type Marker interface {
	MarkDelivered(ctx context.Context, job *batchv1.Job, at time.Time) error
	Expire(ctx context.Context, job *batchv1.Job, now time.Time) error
}

// Source sends the completions of Jobs.
type Source struct {
	Client     kubernetes.Interface
	Namespaces []string
	Sender     Sender
	Marker     Marker
	// ActiveInterval is the time between two times that active runs are named.
	ActiveInterval time.Duration
	Tracer         trace.Tracer
	Propagator     propagation.TextMapPropagator
	Now            func() time.Time
	Log            *slog.Logger
}

const (
	// resync has every Job looked at again: it repairs what a missed watch event
	// left undone.
	resync = 5 * time.Minute
	// workers send at the same time; a Broker over the in-memory channel answers
	// only after the watcher and the bridge did.
	workers = 16
	// firstRetry and lastRetry bound the time between two attempts to send.
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

// byRun is the index of Jobs by their run.
const byRun = "run"

// Run watches and sends until the context ends.
func (source *Source) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))
	var stores []cache.Indexer
	var synced []cache.InformerSynced
	for _, namespace := range source.Namespaces {
		factory := informers.NewSharedInformerFactoryWithOptions(source.Client, resync, informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = run.Selector }))
		informer := factory.Batch().V1().Jobs().Informer()
		if err := informer.AddIndexers(cache.Indexers{byRun: func(object any) ([]string, error) { return runsOf(object), nil }}); err != nil {
			return fmt.Errorf("indexing Jobs in namespace %s: %w", namespace, err)
		}
		registration, err := informer.AddEventHandler(enqueue(queue))
		if err != nil {
			return fmt.Errorf("watching Jobs in namespace %s: %w", namespace, err)
		}
		stores = append(stores, informer.GetIndexer())
		synced = append(synced, registration.HasSynced)
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		queue.ShutDown()
		return context.Cause(ctx)
	}
	source.Log.InfoContext(ctx, "watching Jobs", "namespaces", source.Namespaces)

	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for source.work(ctx, queue, stores) {
			}
		})
	}
	group.Go(func() { source.nameActive(ctx, stores) })
	<-ctx.Done()
	queue.ShutDown()
	group.Wait()
	return nil
}

// runsOf returns the run of a Job, also of one that was deleted.
func runsOf(object any) []string {
	if deleted, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = deleted.Obj
	}
	if job, ok := object.(*batchv1.Job); ok && job.Labels[run.EventIDLabel] != "" {
		return []string{job.Labels[run.EventIDLabel]}
	}
	return nil
}

// enqueue has the whole run looked at of which any Job changed.
func enqueue(queue workqueue.TypedInterface[string]) cache.ResourceEventHandler {
	add := func(object any) {
		for _, runID := range runsOf(object) {
			queue.Add(runID)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, updated any) { add(updated) }, DeleteFunc: add}
}

func (source *Source) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], stores []cache.Indexer) bool {
	runID, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(runID)
	jobs, err := jobsOf(stores, runID)
	if err == nil {
		err = source.Reconcile(ctx, jobs)
	}
	if err != nil && ctx.Err() == nil {
		source.Log.WarnContext(ctx, "will be tried again", "run", runID, "attempt", queue.NumRequeues(runID)+1, "error", err)
		queue.AddRateLimited(runID)
		return true
	}
	queue.Forget(runID)
	return true
}

func jobsOf(stores []cache.Indexer, runID string) ([]*batchv1.Job, error) {
	var jobs []*batchv1.Job
	for _, store := range stores {
		found, err := store.ByIndex(byRun, runID)
		if err != nil {
			return nil, fmt.Errorf("listing the Jobs of run %s: %w", runID, err)
		}
		for _, object := range found {
			if job, ok := object.(*batchv1.Job); ok {
				jobs = append(jobs, job)
			}
		}
	}
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	return jobs, nil
}

// nameActive tells the bridge again and again which runs are active, so that it
// cancels those that Keptn aborted while no bridge was there.
func (source *Source) nameActive(ctx context.Context, stores []cache.Indexer) {
	ticker := time.NewTicker(source.ActiveInterval)
	defer ticker.Stop()
	for {
		var jobs []*batchv1.Job
		for _, store := range stores {
			for _, object := range store.List() {
				if job, ok := object.(*batchv1.Job); ok {
					jobs = append(jobs, job)
				}
			}
		}
		for _, active := range activeRuns(jobs) {
			if err := source.sendActive(ctx, active); err != nil && ctx.Err() == nil {
				source.Log.WarnContext(ctx, "naming an active run failed, will be tried again", "run", active[0].Labels[run.EventIDLabel], "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// activeRuns returns the Jobs of each run that has not ended, sorted by name. It
// leaves out silent runs: who finished their task may have been somebody else.
func activeRuns(jobs []*batchv1.Job) [][]*batchv1.Job {
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	runs := map[string][]*batchv1.Job{}
	for _, job := range jobs {
		if job.Annotations[run.SilentAnnotation] != "true" {
			runs[job.Labels[run.EventIDLabel]] = append(runs[job.Labels[run.EventIDLabel]], job)
		}
	}
	var active [][]*batchv1.Job
	for _, runID := range slices.Sorted(maps.Keys(runs)) {
		if slices.ContainsFunc(runs[runID], run.IsActive) {
			active = append(active, runs[runID])
		}
	}
	return active
}

func (source *Source) sendActive(ctx context.Context, jobs []*batchv1.Job) error {
	active, err := run.Active(jobs, source.Now())
	if err != nil {
		return err
	}
	ctx = source.Propagator.Extract(ctx, propagation.MapCarrier{"traceparent": jobs[0].Annotations[run.TraceparentAnnotation]})
	return source.Sender.Send(ctx, active)
}

// Reconcile brings a run further, of which it is given all Jobs: each finished one
// is sent and then marked; once all of them are marked, they may expire. So a
// result can't expire before it was reported.
func (source *Source) Reconcile(ctx context.Context, jobs []*batchv1.Job) error {
	delivered := true
	for _, job := range jobs {
		if run.IsActive(job) {
			delivered = false
			continue
		}
		if run.IsDelivered(job) {
			continue
		}
		if err := source.send(ctx, job); err != nil {
			return err
		}
		if err := source.Marker.MarkDelivered(ctx, job, source.Now()); err != nil {
			return err
		}
		source.Log.InfoContext(ctx, "completion delivered", "job", job.Name, "namespace", job.Namespace, "phase", run.PhaseOf(job))
		delivered = false // the mark comes back as an update
	}
	if !delivered {
		return nil
	}
	var failures []error
	for _, job := range jobs {
		if job.Spec.TTLSecondsAfterFinished == nil {
			failures = append(failures, source.Marker.Expire(ctx, job, source.Now()))
		}
	}
	return errors.Join(failures...)
}

func (source *Source) send(ctx context.Context, job *batchv1.Job) error {
	completed, err := run.Completed(job)
	if err != nil {
		return err
	}
	ctx = source.Propagator.Extract(ctx, propagation.MapCarrier{"traceparent": job.Annotations[run.TraceparentAnnotation]})
	ctx, span := source.Tracer.Start(ctx, "jobsource "+run.CompletedType, trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	if err := source.Sender.Send(ctx, completed); err != nil {
		return fmt.Errorf("sending the completion of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}
