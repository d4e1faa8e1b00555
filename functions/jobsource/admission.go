package jobsource

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

func projectsOf(object any) []string {
	if job := jobOf(object); job != nil && (!run.IsReported(job) || run.IsActive(job)) {
		return []string{projectOf(job)}
	}
	return nil
}

// projectOf is the project of a Job, empty if it names none.
func projectOf(job *batchv1.Job) string {
	var task keptn.Task
	_ = json.Unmarshal([]byte(job.Annotations[run.TaskAnnotation]), &task)
	return task.Project
}

// admitAll admits what is queued of each project in which something changed, until the queue ends.
func (source *Source) admitAll(ctx context.Context, projects workqueue.TypedRateLimitingInterface[string]) {
	admitted := map[string]map[types.UID]bool{}
	for {
		project, shutdown := projects.Get()
		if shutdown {
			return
		}
		if source.MaxActiveRuns > 0 && source.awaitsAny() {
			projects.AddAfter(project, unsyncedPause)
			projects.Done(project)
			continue
		}
		still, err := source.admit(ctx, project, admitted[project])
		if admitted[project] = still; len(still) == 0 {
			delete(admitted, project)
		}
		if err != nil && ctx.Err() == nil {
			source.Log.WarnContext(ctx, "will be tried again", "project", project, "error", err)
			projects.AddRateLimited(project)
		} else {
			projects.Forget(project)
		}
		projects.Done(project)
	}
}

// awaitsAny says whether there may be Jobs that are not known yet.
func (source *Source) awaitsAny() bool {
	source.mutex.Lock()
	defer source.mutex.Unlock()
	for _, namespace := range source.namespaces {
		if source.awaits(namespace) {
			return true
		}
	}
	return false
}

// admit starts the oldest runs of a project that are queued, as many as may be active. It is given the
// Jobs that it has admitted of which the watch may not have told yet, and returns which those are now.
func (source *Source) admit(ctx context.Context, project string, admitted map[types.UID]bool) (still map[types.UID]bool, err error) {
	still = map[types.UID]bool{}
	queued, active := source.queuedOf(project)
	queued = slices.DeleteFunc(queued, func(job *batchv1.Job) bool {
		if admitted[job.UID] {
			still[job.UID] = true
		}
		return admitted[job.UID]
	})
	active += len(still)
	slices.SortFunc(queued, func(one, other *batchv1.Job) int {
		return cmp.Or(run.QueuedAt(one).Compare(run.QueuedAt(other)), cmp.Compare(one.Name, other.Name))
	})
	if source.MaxActiveRuns > 0 {
		queued = queued[:max(0, min(len(queued), source.MaxActiveRuns-active))]
	}
	var failures []error
	for _, job := range queued {
		if err := source.Marker.Admit(ctx, job); err != nil {
			failures = append(failures, fmt.Errorf("admitting run %s of project %s: %w", job.Labels[run.EventIDLabel], project, err))
			continue
		}
		still[job.UID] = true
		source.Log.InfoContext(ctx, "run admitted", "run", job.Labels[run.EventIDLabel], "project", project)
	}
	return still, errors.Join(failures...)
}

// queuedOf are the first Jobs of a project's runs that are queued, and how many of its others are active:
// those that have begun and not ended.
func (source *Source) queuedOf(project string) (queued []*batchv1.Job, active int) {
	type state struct {
		queued        *batchv1.Job
		active, begun bool
	}
	runs := map[string]state{}
	source.mutex.Lock()
	for _, namespace := range source.namespaces {
		objects, _ := namespace.store.ByIndex(byProject, project) // it has this index
		for _, object := range objects {
			job := jobOf(object)
			id := job.Labels[run.EventIDLabel]
			one := runs[id]
			if run.IsQueued(job) && one.queued == nil {
				one.queued = job
			}
			one.active = one.active || run.IsActive(job)
			one.begun = one.begun || run.PhaseOf(job) != run.Waiting
			runs[id] = one
		}
	}
	source.mutex.Unlock()
	for _, one := range runs {
		switch {
		case one.queued != nil:
			queued = append(queued, one.queued)
		case one.active && one.begun:
			active++
		}
	}
	return queued, active
}
