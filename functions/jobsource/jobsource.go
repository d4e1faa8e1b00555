package jobsource

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Sender gives the Broker an event; it returns nil only after the Broker's 2xx.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Marker changes Jobs, as run.Store does.
type Marker interface {
	MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error
	Expire(ctx context.Context, job *batchv1.Job, now time.Time) error
	Admit(ctx context.Context, job *batchv1.Job) error
}

// Source sends the completions of Jobs until their run is reported: until the bridge
// has said that Keptn has the result. That the Broker took a completion says nothing,
// since a Broker may lose what it took.
type Source struct {
	Client     cluster.Client
	Namespaces []string
	// Installation is the one whose Jobs they are.
	Installation string
	Sender       Sender
	Marker       Marker
	// ActiveInterval is the time between two times that active runs are named.
	ActiveInterval time.Duration
	// StartDeadline is the time in which a Job's pod has to start.
	StartDeadline time.Duration
	// MaxActiveRuns is how many runs of a project may be active at a time; 0 is no limit.
	MaxActiveRuns int
	Tracer        trace.Tracer
	Meter         metric.Meter
	// Events counts what is sent once more; nil counts nothing.
	Events *telemetry.Counters
	Now    func() time.Time
	Log    *slog.Logger

	mutex sync.Mutex
	// namespaces are those that are watched, by name.
	namespaces map[string]*watched
	// runs are what is remembered of runs, until they are reported.
	runs map[string]remembered
}

// remembered is what the Jobs of a run do not tell.
type remembered struct {
	// sent is what was sent last, how often, and when it is sent again.
	sent  string
	times int
	next  time.Time
	// gone is a Job that was deleted.
	gone *batchv1.Job
	// pending are the Jobs whose pod has not started, and since when that is seen. What
	// Kubernetes says of that is by another clock, which may be wrong, or jump.
	pending map[types.UID]time.Time
	// told holds the Jobs that were already reported as pending.
	told map[types.UID]bool
}

func (known remembered) isNothing() bool {
	return known.sent == "" && known.gone == nil && len(known.pending) == 0 && len(known.told) == 0
}

type watched struct {
	store  cache.Indexer
	synced cache.InformerSynced
	// since is when the watch began.
	since time.Time
}

const (
	// resync has every Job looked at again: it repairs what a missed watch event
	// left undone.
	resync = 5 * time.Minute
	// workers send at the same time; a Broker over the in-memory channel answers
	// only after the watcher and the bridge did.
	workers = 64
	// firstRetry and lastRetry bound the time between two attempts to send.
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
	// firstRepeat and lastRepeat bound the time after which a completion that was
	// taken is sent again, as long as its run is not reported.
	firstRepeat = 10 * time.Second
	lastRepeat  = 2 * time.Minute
	// unsyncedPause is the time after which a run is looked at again that has Jobs in a
	// namespace which can't be watched (yet).
	unsyncedPause = 5 * time.Second
	// maxRuns bounds of how many runs a deleted Job is remembered; the bridge asks for the
	// others.
	maxRuns = 10000
)

// byRun is the index of Jobs by their run, and byProject by their project, of those that are active
// or not reported.
const byRun, byProject = "run", "project"

func indexers() cache.Indexers {
	return cache.Indexers{
		byRun:     func(object any) ([]string, error) { return runsOf(object), nil },
		byProject: func(object any) ([]string, error) { return projectsOf(object), nil },
	}
}

// Run watches and sends until the context ends. A namespace that can't be watched,
// since it is gone or has no roles yet, does not stop the others.
func (source *Source) Run(ctx context.Context) error {
	queue, projects := newQueue(), newQueue()
	namespaces := map[string]*watched{}
	var group sync.WaitGroup
	for _, namespace := range source.Namespaces {
		informer := source.informer(namespace)
		registration, err := informer.AddEventHandler(source.enqueue(queue, projects))
		if err != nil {
			return fmt.Errorf("watching Jobs in namespace %s: %w", namespace, err)
		}
		namespaces[namespace] = &watched{informer.GetIndexer(), registration.HasSynced, source.Now()}
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	source.mutex.Lock()
	source.namespaces = namespaces
	source.mutex.Unlock()
	source.observe()
	source.awaitSync(ctx)
	for range workers {
		group.Go(func() {
			for source.work(ctx, queue) {
			}
		})
	}
	group.Go(func() { source.admitAll(ctx, projects) })
	group.Go(func() { source.nameActive(ctx) })
	group.Go(func() { source.tellUnsynced(ctx) })
	<-ctx.Done()
	queue.ShutDown()
	projects.ShutDown()
	group.Wait()
	return nil
}

func newQueue() workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))
}

// pageSize is how many Jobs are listed at a time: whole, thousands of them would not fit
// into memory at the start.
const pageSize = 500

// informer watches the Jobs of a namespace.
func (source *Source) informer(namespace string) cache.SharedIndexInformer {
	jobs, selector := source.Client.Jobs(namespace), run.SelectorOf(source.Installation)
	informer := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				page, err := jobs.List(ctx, options)
				if err != nil {
					return nil, fmt.Errorf("listing Jobs in namespace %s: %w", namespace, err)
				}
				for index := range page.Items {
					page.Items[index] = *strip(&page.Items[index])
				}
				return page, nil
			})
			// Else a list that changes too fast would be read whole, which does not fit.
			pages.PageSize, pages.FullListIfExpired = pageSize, false
			list, _, err := pages.List(ctx, metav1.ListOptions{LabelSelector: selector})
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = selector
			return jobs.Watch(ctx, options)
		},
	}, &batchv1.Job{}, cache.SharedIndexInformerOptions{
		ResyncPeriod: resync, Indexers: indexers(),
	})
	// Only for an informer that has started it fails.
	_ = informer.SetTransform(func(object any) (any, error) {
		if job, ok := object.(*batchv1.Job); ok {
			return strip(job), nil
		}
		return object, nil
	})
	return informer
}

// awaitSync waits until all namespaces are listed, but not long: of those that can't be,
// the others know nothing.
func (source *Source) awaitSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, unsyncedPause)
	defer cancel()
	var synced []cache.InformerSynced
	source.mutex.Lock()
	for _, namespace := range source.namespaces {
		synced = append(synced, namespace.synced)
	}
	source.mutex.Unlock()
	cache.WaitForCacheSync(ctx.Done(), synced...)
}

// observe has measured how many namespaces can't be watched, and how old the oldest result is
// that Keptn does not have.
func (source *Source) observe() {
	_, unwatchedErr := source.Meter.Int64ObservableGauge("jobsource.namespaces.unwatched", metric.WithUnit("{namespace}"),
		metric.WithDescription("Namespaces of Jobs that can't be watched: they do not exist, or lack the roles."),
		metric.WithInt64Callback(func(_ context.Context, observer metric.Int64Observer) error {
			observer.Observe(int64(len(source.unsynced())))
			return nil
		}))
	_, unreportedErr := source.Meter.Float64ObservableGauge("job_executor.job.unreported.age", metric.WithUnit("s"),
		metric.WithDescription("For how long the oldest run has ended whose result Keptn does not have."),
		metric.WithFloat64Callback(func(_ context.Context, observer metric.Float64Observer) error {
			observer.Observe(unreportedFor(activeRuns(source.jobs()), source.Now()).Seconds())
			return nil
		}))
	if err := errors.Join(unwatchedErr, unreportedErr); err != nil {
		source.Log.Warn("a metric is missing", "error", err)
	}
}

// unreportedFor is for how long the oldest of runs has ended that are not reported.
func unreportedFor(runs [][]*batchv1.Job, now time.Time) time.Duration {
	oldest := now
	for _, jobs := range runs {
		if slices.ContainsFunc(jobs, run.IsActive) {
			continue
		}
		var ended time.Time
		for _, job := range jobs {
			if at := run.FinishedAt(job); at.After(ended) {
				ended = at
			}
		}
		if !ended.IsZero() && ended.Before(oldest) {
			oldest = ended
		}
	}
	return now.Sub(oldest)
}

// unsynced are the namespaces that can't be watched, or have not been listed yet.
func (source *Source) unsynced() []string {
	source.mutex.Lock()
	defer source.mutex.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(source.namespaces)) {
		if !source.namespaces[name].synced() {
			names = append(names, name)
		}
	}
	return names
}

// tellUnsynced logs when all namespaces are watched, and every minute which are not.
func (source *Source) tellUnsynced(ctx context.Context) {
	const interval = time.Second
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for looks := 0; ; looks++ {
		names := source.unsynced()
		if len(names) == 0 {
			source.Log.InfoContext(ctx, "watching Jobs", "namespaces", source.Namespaces)
			return
		}
		if looks%60 == 10 {
			source.Log.WarnContext(ctx, "Jobs in these namespaces can't be watched; do they exist, and have the roles of job-executor-jobs?", "namespaces", names)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// strip leaves out of a Job what is not looked at here, so that thousands of them fit
// into memory.
func strip(job *batchv1.Job) *batchv1.Job {
	kept := map[string]string{}
	for _, name := range []string{
		run.TaskAnnotation, run.PlanAnnotation, run.ReportedAnnotation, run.TTLAnnotation, run.SilentAnnotation, run.FailureAnnotation,
		run.SucceededAnnotation, run.QueuedAnnotation,
	} {
		if value, ok := job.Annotations[name]; ok {
			kept[name] = value
		}
	}
	labels := map[string]string{}
	for _, name := range []string{run.EventIDLabel, run.ActionIndexLabel, run.TaskIndexLabel} {
		labels[name] = job.Labels[name]
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion,
			Labels: labels, Annotations: kept,
		},
		Spec: batchv1.JobSpec{Suspend: job.Spec.Suspend, TTLSecondsAfterFinished: job.Spec.TTLSecondsAfterFinished},
		Status: batchv1.JobStatus{
			Conditions: job.Status.Conditions, Active: job.Status.Active, Ready: job.Status.Ready,
			Succeeded: job.Status.Succeeded, Failed: job.Status.Failed,
		},
	}
}

// jobOf is the Job of an informer's object, also of one that was deleted.
func jobOf(object any) *batchv1.Job {
	if deleted, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = deleted.Obj
	}
	job, _ := object.(*batchv1.Job)
	return job
}

// runsOf returns the run of a Job.
func runsOf(object any) []string {
	if job := jobOf(object); job != nil && job.Labels[run.EventIDLabel] != "" {
		return []string{job.Labels[run.EventIDLabel]}
	}
	return nil
}

// enqueue has the whole run looked at of which any Job changed, and the runs of its project
// that are queued, and remembers which Job was deleted before its run was reported.
func (source *Source) enqueue(queue, projects workqueue.TypedInterface[string]) cache.ResourceEventHandler {
	add := func(object any) {
		for _, runID := range runsOf(object) {
			queue.Add(runID)
		}
		// Without a limit there is only what was queued before to be admitted.
		if job := jobOf(object); job != nil && (source.MaxActiveRuns > 0 || run.IsQueued(job)) {
			projects.Add(projectOf(job))
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, updated any) { add(updated) }, DeleteFunc: func(object any) {
		if job := jobOf(object); job != nil && !run.IsReported(job) {
			source.remember(job)
		}
		add(object)
	}}
}

func (source *Source) remember(job *batchv1.Job) {
	source.recall(job.Labels[run.EventIDLabel], func(known *remembered) {
		if known.gone == nil && len(source.runs) < maxRuns || known.gone != nil && run.PhaseOf(known.gone) == run.Waiting {
			known.gone = job
		}
	})
}

// recall returns what is remembered of a run, once it is changed.
func (source *Source) recall(runID string, change func(*remembered)) remembered {
	source.mutex.Lock()
	defer source.mutex.Unlock()
	known := source.runs[runID]
	if change(&known); known.isNothing() {
		delete(source.runs, runID)
		return known
	}
	if source.runs == nil {
		source.runs = map[string]remembered{}
	}
	source.runs[runID] = known
	return known
}

func (source *Source) forget(runID string) {
	source.recall(runID, func(known *remembered) { *known = remembered{} })
}

func (source *Source) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) bool {
	runID, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(runID)
	again := unsyncedPause
	jobs, complete := source.jobsOf(runID)
	var err error
	if complete {
		again, err = source.Reconcile(ctx, runID, jobs)
	}
	if err != nil && ctx.Err() == nil {
		source.Log.WarnContext(ctx, "will be tried again", "run", runID, "attempt", queue.NumRequeues(runID)+1, "error", err)
		queue.AddRateLimited(runID)
		return true
	}
	queue.Forget(runID)
	if again > 0 {
		queue.AddAfter(runID, again)
	}
	return true
}

// jobsOf returns the Jobs of a run in their order, and whether they are known to be
// all: not as long as a namespace is not watched in which there should be one. One that
// could not be watched for the StartDeadline is taken to be gone, with its Jobs.
func (source *Source) jobsOf(runID string) (jobs []*batchv1.Job, complete bool) {
	source.mutex.Lock()
	defer source.mutex.Unlock()
	for _, namespace := range source.namespaces {
		objects, _ := namespace.store.ByIndex(byRun, runID) // it has this index
		for _, object := range objects {
			jobs = append(jobs, jobOf(object))
		}
	}
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	known := jobs
	if gone := source.runs[runID].gone; gone != nil {
		known = append(slices.Clone(jobs), gone)
	}
	for _, job := range known {
		for _, planned := range run.PlanOf(job) {
			if namespace := source.namespaces[planned.Namespace]; namespace != nil && source.awaits(namespace) {
				return jobs, false
			}
		}
	}
	return jobs, true
}

// awaits says whether a namespace is not watched yet, but may be soon.
func (source *Source) awaits(namespace *watched) bool {
	return !namespace.synced() && source.Now().Sub(namespace.since) < source.StartDeadline
}

// Reconcile brings a run further, of which it is given all Jobs that there are. What
// has happened is sent, and again after a while, until the run is reported; then its
// Jobs may expire. It returns after what time it wants to look again, 0 for not
// before something changes.
func (source *Source) Reconcile(ctx context.Context, runID string, jobs []*batchv1.Job) (again time.Duration, err error) {
	if len(jobs) > 0 && !slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return !run.IsReported(job) || run.IsActive(job) }) {
		source.forget(runID)
		var failures []error
		for _, job := range jobs {
			if job.Spec.TTLSecondsAfterFinished == nil {
				failures = append(failures, source.Marker.Expire(ctx, job, source.Now()))
			}
		}
		return 0, errors.Join(failures...)
	}
	last := source.recall(runID, func(*remembered) {})
	job, how, pause := source.news(runID, jobs, last.gone)
	if job == nil {
		if len(jobs) == 0 {
			source.forget(runID)
		}
		return pause, nil
	}
	ended := 0
	for _, job := range jobs {
		if !run.IsActive(job) {
			ended++
		}
	}
	what := fmt.Sprintf("%s %s, %d ended", how, job.Name, ended)
	if last.sent != what {
		last.times = 0
	} else if wait := last.next.Sub(source.Now()); wait > 0 {
		return wait, nil
	}
	if last.times > 0 {
		source.Events.Retried(ctx, protocol.CompletedType)
	}
	if err := source.send(ctx, job, how); err != nil {
		return 0, err
	}
	pause = min(firstRepeat<<min(last.times, 8), lastRepeat)
	// Nobody says when the result of a silent run has arrived; that its task is over is said
	// when the run is named. A run whose Jobs were deleted can no longer be named.
	isLast := run.IsSilent(job) && how != protocol.JobUnstarted && ended == len(jobs)
	if isLast && len(jobs) == 0 {
		source.forget(runID)
		return 0, nil
	}
	if isLast {
		pause = resync
	}
	if how == protocol.JobPending {
		source.recall(runID, func(known *remembered) {
			known.told = map[types.UID]bool{job.UID: true}
			for uid := range last.told {
				known.told[uid] = true
			}
		})
		return time.Second, nil // for what is next
	}
	source.recall(runID, func(known *remembered) {
		known.sent, known.times, known.next = what, last.times+1, source.Now().Add(pause)
	})
	source.Log.InfoContext(ctx, "completion sent", "run", runID, "job", job.Name, "namespace", job.Namespace, "how", how, "times", last.times+1)
	if isLast {
		return 0, nil
	}
	return pause, nil
}

// news is what has happened to a run, of which a Job may be gone: the Job that it
// happened to, and how; or none, and after what time to look again.
func (source *Source) news(runID string, jobs []*batchv1.Job, gone *batchv1.Job) (job *batchv1.Job, how string, again time.Duration) {
	if len(jobs) == 0 {
		return gone, protocol.JobDeleted, 0
	}
	values := make([]batchv1.Job, 0, len(jobs))
	for _, job := range jobs {
		values = append(values, *job)
	}
	switch step := run.Next(values, gone != nil); {
	case !step.Ended && len(step.Resume) == 0:
	case len(step.Ran)+len(step.Missing) == 0:
		return jobs[0], protocol.JobBegun, 0
	case len(step.Missing) > 0:
		return cmp.Or(gone, jobs[0]), protocol.JobDeleted, 0
	default:
		return step.Ran[len(step.Ran)-1].Job, protocol.JobFinished, 0
	}
	return source.unstarted(runID, jobs)
}

// unstarted is the Job that has not started in time, if one has not; or after what time
// to look again.
func (source *Source) unstarted(runID string, jobs []*batchv1.Job) (job *batchv1.Job, how string, again time.Duration) {
	pending := map[types.UID]time.Time{}
	told := source.recall(runID, func(known *remembered) {
		for _, job := range jobs {
			if run.PhaseOf(job) != run.Running || hasStarted(job) {
				continue
			}
			since, ok := known.pending[job.UID]
			if !ok {
				since = source.Now()
			}
			pending[job.UID] = since
		}
		known.pending = pending
	}).told
	for _, job := range jobs {
		since, ok := pending[job.UID]
		if !ok {
			continue
		}
		left := since.Add(source.StartDeadline).Sub(source.Now())
		if left <= 0 {
			return job, protocol.JobUnstarted, 0
		}
		if until := since.Add(tellWaitingAfter).Sub(source.Now()); !told[job.UID] && until <= 0 {
			return job, protocol.JobPending, 0
		} else if !told[job.UID] {
			left = min(left, until)
		}
		if again == 0 || left < again {
			again = left
		}
	}
	return nil, "", again
}

// tellWaitingAfter is after what time a person is told in Keptn's log why a task does not start.
const tellWaitingAfter = 30 * time.Second

// hasStarted reports whether the current attempt of a Job has started: its pod is ready, or has
// ended. A new attempt starts like the first one.
func hasStarted(job *batchv1.Job) bool {
	isReady := job.Status.Ready != nil && *job.Status.Ready > 0
	return isReady || job.Status.Active == 0 && (job.Status.Succeeded > 0 || job.Status.Failed > 0)
}

func (source *Source) send(ctx context.Context, job *batchv1.Job, how string) error {
	completed := protocol.Completed(job, how, source.Now())
	var task keptn.Task // of none there is just no trace
	_ = json.Unmarshal([]byte(job.Annotations[run.TaskAnnotation]), &task)
	ctx, span := telemetry.StartSend(ctx, source.Tracer, task, protocol.CompletedType,
		append(telemetry.EventAttributes(completed), attribute.String("k8s.job.name", job.Name), attribute.String("k8s.namespace.name", job.Namespace))...)
	defer span.End()
	if err := source.Sender.Send(ctx, completed); err != nil {
		telemetry.Note(span, "not taken, and sent again", err)
		return fmt.Errorf("sending the completion of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// Handle takes the event that a run is reported: Keptn has its result. Its Jobs are
// marked so, which comes back as a change of them.
func (source *Source) Handle(ctx context.Context, reported event.Event) (*event.Event, error) {
	notice, err := protocol.NoticeOf(reported, protocol.ReportedType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	runID := notice.RunID
	jobs, complete := source.jobsOf(runID)
	var failures []error
	for _, job := range jobs {
		if !run.IsReported(job) {
			failures = append(failures, source.Marker.MarkReported(ctx, job, source.Now()))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	if complete {
		source.forget(runID)
	}
	source.Log.InfoContext(ctx, "Keptn has the result of a run", "run", runID, "jobs", len(jobs))
	return nil, nil
}

const (
	// concurrentNames is how many runs are named at a time, and nameTimeout how long one may take: a
	// round has to end before the bridge takes the runs to be gone.
	concurrentNames = 16
	nameTimeout     = 30 * time.Second
)

// nameActive names the runs that are not reported, at the start and then again and
// again: so the bridge learns of those that began before it did, and they learn when
// Keptn no longer waits for them. Of those that have just begun the bridge has just heard, and
// many are over before the next time.
func (source *Source) nameActive(ctx context.Context) {
	ticker := time.NewTicker(source.ActiveInterval)
	defer ticker.Stop()
	var young time.Time // at the start none is
	for {
		var group errgroup.Group
		group.SetLimit(concurrentNames)
		for _, active := range activeRuns(source.jobs()) {
			if !young.IsZero() && active[0].CreationTimestamp.After(young) {
				continue
			}
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, nameTimeout)
				defer cancel()
				if err := source.Sender.Send(ctx, protocol.Active(active, source.Now())); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
					source.Log.WarnContext(ctx, "naming an active run failed, will be tried again", "run", active[0].Labels[run.EventIDLabel], "error", err)
				}
				return nil
			})
		}
		_ = group.Wait() // none returns an error
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			young = source.Now().Add(-source.ActiveInterval / 2)
		}
	}
}

// jobs are those of all namespaces that are watched.
func (source *Source) jobs() []*batchv1.Job {
	source.mutex.Lock()
	defer source.mutex.Unlock()
	var jobs []*batchv1.Job
	for _, namespace := range source.namespaces {
		for _, object := range namespace.store.List() {
			if job := jobOf(object); job != nil {
				jobs = append(jobs, job)
			}
		}
	}
	return jobs
}

// activeRuns returns the Jobs of each run that is not reported, sorted by name.
func activeRuns(jobs []*batchv1.Job) [][]*batchv1.Job {
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	runs := map[string][]*batchv1.Job{}
	for _, job := range jobs {
		runs[job.Labels[run.EventIDLabel]] = append(runs[job.Labels[run.EventIDLabel]], job)
	}
	var active [][]*batchv1.Job
	for _, runID := range slices.Sorted(maps.Keys(runs)) {
		if slices.ContainsFunc(runs[runID], func(job *batchv1.Job) bool { return !run.IsReported(job) }) {
			active = append(active, runs[runID])
		}
	}
	return active
}
