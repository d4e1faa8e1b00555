package jobsource

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/run"
)

type watched struct {
	store  cache.Indexer
	synced cache.InformerSynced
	// since is when the watch began.
	since time.Time
}

// byRun is the index of Jobs by run. byProject is the index of active or unreported Jobs, by project.
const byRun, byProject = "run", "project"

func indexers() cache.Indexers {
	return cache.Indexers{
		byRun:     func(object any) ([]string, error) { return runsOf(object), nil },
		byProject: func(object any) ([]string, error) { return projectsOf(object), nil },
	}
}

// pageSize is how many Jobs are listed at a time. Thousands of whole Jobs would not fit into memory.
const pageSize = 500

// informer watches the Jobs of a namespace.
func (s *Source) informer(namespace string) cache.SharedIndexInformer {
	jobs, selector := s.Client.Jobs(namespace), run.SelectorOf(s.Installation)
	informer := cache.NewSharedIndexInformerWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				page, err := jobs.List(ctx, options)
				if err != nil {
					return nil, fmt.Errorf("list Jobs in namespace %s: %w", namespace, err)
				}
				for index := range page.Items {
					page.Items[index] = *strip(&page.Items[index])
				}
				return page, nil
			})
			// Otherwise a list that changes fast would be read as a whole, which does not fit into memory.
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
	// It only fails after the informer has started.
	_ = informer.SetTransform(func(object any) (any, error) {
		if job, ok := object.(*batchv1.Job); ok {
			return strip(job), nil
		}
		return object, nil
	})
	return informer
}

// strip removes what jobsource does not need from a Job, so that thousands of Jobs fit into memory.
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

// jobOf returns the Job of an informer's object, also of a deleted one; nil if it is none.
func jobOf(object any) *batchv1.Job {
	if deleted, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = deleted.Obj
	}
	job, _ := object.(*batchv1.Job)
	return job
}

// runsOf returns the run of a Job, for the index.
func runsOf(object any) []string {
	if job := jobOf(object); job != nil && job.Labels[run.EventIDLabel] != "" {
		return []string{job.Labels[run.EventIDLabel]}
	}
	return nil
}

// projectsOf returns the project of an active or unreported Job, for the index.
func projectsOf(object any) []string {
	if job := jobOf(object); job != nil && (!run.IsReported(job) || run.IsActive(job)) {
		return []string{projectOf(job)}
	}
	return nil
}

// enqueue requeues the run and the project of a changed Job. It remembers a Job deleted before its run was
// reported.
func (s *Source) enqueue(queue, projects workqueue.TypedInterface[string]) cache.ResourceEventHandler {
	add := func(object any) {
		for _, runID := range runsOf(object) {
			queue.Add(runID)
		}
		// Without a limit only runs that were queued before it was removed need admission.
		if job := jobOf(object); job != nil && (s.MaxActiveRuns > 0 || run.IsQueued(job)) {
			projects.Add(projectOf(job))
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, updated any) { add(updated) }, DeleteFunc: func(object any) {
		if job := jobOf(object); job != nil && !run.IsReported(job) {
			s.remember(job)
		}
		add(object)
	}}
}

// awaitSync waits until all namespaces are listed, but not long: a namespace that cannot be listed must not delay
// the others.
func (s *Source) awaitSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, unsyncedPause)
	defer cancel()
	var synced []cache.InformerSynced
	s.mutex.Lock()
	for _, namespace := range s.namespaces {
		synced = append(synced, namespace.synced)
	}
	s.mutex.Unlock()
	cache.WaitForCacheSync(ctx.Done(), synced...)
}

// unsynced returns the namespaces that cannot be watched, or are not listed yet.
func (s *Source) unsynced() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.namespaces)) {
		if !s.namespaces[name].synced() {
			names = append(names, name)
		}
	}
	return names
}

// logUnwatched logs which namespaces are not watched, every minute until all are.
func (s *Source) logUnwatched(ctx context.Context) {
	const interval = time.Second
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for looks := 0; ; looks++ {
		names := s.unsynced()
		if len(names) == 0 {
			s.Log.InfoContext(ctx, "watching Jobs", "namespaces", s.Namespaces)
			return
		}
		if looks%60 == 10 {
			s.Log.WarnContext(ctx, "cannot watch Jobs: check that the namespaces exist and have the roles of job-executor-jobs", "namespaces", names)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
