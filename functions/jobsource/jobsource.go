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
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
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
	Expire(ctx context.Context, job *batchv1.Job) error
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

// Run watches and sends until the context ends.
func (source *Source) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](firstRetry, lastRetry))
	listers := map[string]batchlisters.JobNamespaceLister{}
	var synced []cache.InformerSynced
	for _, namespace := range source.Namespaces {
		factory := informers.NewSharedInformerFactoryWithOptions(source.Client, resync, informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = run.Selector }))
		jobs := factory.Batch().V1().Jobs()
		registration, err := jobs.Informer().AddEventHandler(enqueue(queue))
		if err != nil {
			return fmt.Errorf("watching Jobs in namespace %s: %w", namespace, err)
		}
		listers[namespace] = jobs.Lister().Jobs(namespace)
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
			for source.work(ctx, queue, listers) {
			}
		})
	}
	group.Go(func() { source.nameActive(ctx, listers) })
	<-ctx.Done()
	queue.ShutDown()
	group.Wait()
	return nil
}

func enqueue(queue workqueue.TypedInterface[cache.ObjectName]) cache.ResourceEventHandler {
	add := func(object any) {
		if name, err := cache.DeletionHandlingObjectToName(object); err == nil {
			queue.Add(name)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, updated any) { add(updated) }, DeleteFunc: add}
}

func (source *Source) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[cache.ObjectName], listers map[string]batchlisters.JobNamespaceLister) bool {
	name, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(name)
	job, err := listers[name.Namespace].Get(name.Name)
	if err != nil {
		queue.Forget(name) // it is gone
		return true
	}
	siblings, err := source.siblings(listers, job)
	if err == nil {
		err = source.Reconcile(ctx, job, siblings)
	}
	if err != nil && ctx.Err() == nil {
		source.Log.WarnContext(ctx, "will be tried again", "job", name.String(), "attempt", queue.NumRequeues(name)+1, "error", err)
		queue.AddRateLimited(name)
		return true
	}
	queue.Forget(name)
	return true
}

func (source *Source) siblings(listers map[string]batchlisters.JobNamespaceLister, job *batchv1.Job) ([]*batchv1.Job, error) {
	selector := labels.SelectorFromSet(labels.Set{run.EventIDLabel: job.Labels[run.EventIDLabel]})
	var siblings []*batchv1.Job
	for namespace, lister := range listers {
		found, err := lister.List(selector)
		if err != nil {
			return nil, fmt.Errorf("listing the run's Jobs in namespace %s: %w", namespace, err)
		}
		siblings = append(siblings, found...)
	}
	return siblings, nil
}

// nameActive tells the bridge again and again which runs are active, so that it
// cancels those that Keptn aborted while no bridge was there.
func (source *Source) nameActive(ctx context.Context, listers map[string]batchlisters.JobNamespaceLister) {
	ticker := time.NewTicker(source.ActiveInterval)
	defer ticker.Stop()
	for {
		var jobs []*batchv1.Job
		for _, namespace := range source.Namespaces {
			found, err := listers[namespace].List(labels.Everything())
			if err != nil {
				source.Log.WarnContext(ctx, "listing Jobs failed", "namespace", namespace, "error", err)
			}
			jobs = append(jobs, found...)
		}
		for _, job := range activeRuns(jobs) {
			if err := source.sendActive(ctx, job); err != nil && ctx.Err() == nil {
				source.Log.WarnContext(ctx, "naming an active run failed, will be tried again", "job", job.Name, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// activeRuns returns one Job of each run that has not ended, sorted by name. It
// leaves out silent runs: who finished their task may have been somebody else.
func activeRuns(jobs []*batchv1.Job) []*batchv1.Job {
	runs := map[string]*batchv1.Job{}
	for _, job := range jobs {
		if run.IsActive(job) && job.Annotations[run.SilentAnnotation] != "true" {
			runs[job.Labels[run.EventIDLabel]] = job
		}
	}
	return slices.SortedFunc(maps.Values(runs), func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
}

func (source *Source) sendActive(ctx context.Context, job *batchv1.Job) error {
	active, err := run.Active(job, source.Now())
	if err != nil {
		return err
	}
	ctx = source.Propagator.Extract(ctx, propagation.MapCarrier{"traceparent": job.Annotations[run.TraceparentAnnotation]})
	return source.Sender.Send(ctx, active)
}

// Reconcile brings one Job further: a finished one is sent and then marked; once
// every Job of its run is marked, all of them may expire. So a result can't
// expire before it was reported.
func (source *Source) Reconcile(ctx context.Context, job *batchv1.Job, siblings []*batchv1.Job) error {
	if run.IsActive(job) {
		return nil
	}
	if !run.IsDelivered(job) {
		if err := source.send(ctx, job); err != nil {
			return err
		}
		if err := source.Marker.MarkDelivered(ctx, job, source.Now()); err != nil {
			return err
		}
		source.Log.InfoContext(ctx, "completion delivered", "job", job.Name, "namespace", job.Namespace, "phase", run.PhaseOf(job))
		return nil // the mark comes back as an update
	}
	for _, sibling := range siblings {
		if !run.IsDelivered(sibling) {
			return nil
		}
	}
	var failures []error
	for _, sibling := range siblings {
		if sibling.Spec.TTLSecondsAfterFinished == nil {
			failures = append(failures, source.Marker.Expire(ctx, sibling))
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
