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

// projectOf returns the project of a Job, empty if unknown.
func projectOf(job *batchv1.Job) string {
	var task keptn.Task
	_ = json.Unmarshal([]byte(job.Annotations[run.TaskAnnotation]), &task)
	return task.Project
}

// admitAll admits queued runs of each project with changes, until the queue shuts down.
func (s *Source) admitAll(ctx context.Context, projects workqueue.TypedRateLimitingInterface[string]) {
	admitted := map[string]map[types.UID]bool{}
	for {
		project, shutdown := projects.Get()
		if shutdown {
			return
		}
		if s.MaxActiveRuns > 0 && s.awaitsAny() {
			projects.AddAfter(project, unsyncedPause)
			projects.Done(project)
			continue
		}
		still, err := s.admit(ctx, project, admitted[project])
		if admitted[project] = still; len(still) == 0 {
			delete(admitted, project)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "admitting runs failed; retrying", "project", project, "error", err)
			projects.AddRateLimited(project)
		} else {
			projects.Forget(project)
		}
		projects.Done(project)
	}
}

// awaitsAny reports whether there may be unknown Jobs.
func (s *Source) awaitsAny() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, namespace := range s.namespaces {
		if s.awaits(namespace) {
			return true
		}
	}
	return false
}

// admit starts the oldest queued runs of a project, up to MaxActiveRuns. Admitted are the started Jobs that the
// watch may not show yet; admit returns the current ones.
func (s *Source) admit(ctx context.Context, project string, admitted map[types.UID]bool) (still map[types.UID]bool, err error) {
	still = map[types.UID]bool{}
	queued, active := s.queuedOf(project)
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
	if s.MaxActiveRuns > 0 {
		queued = queued[:max(0, min(len(queued), s.MaxActiveRuns-active))]
	}
	var failures []error
	for _, job := range queued {
		if err := s.Marker.Admit(ctx, job); err != nil {
			failures = append(failures, fmt.Errorf("admit run %s of project %s: %w", job.Labels[run.EventIDLabel], project, err))
			continue
		}
		still[job.UID] = true
		s.Log.InfoContext(ctx, "run admitted", "run", job.Labels[run.EventIDLabel], "project", project)
	}
	return still, errors.Join(failures...)
}

// queuedOf returns the first Jobs of a project's queued runs, and how many of its other runs are active: begun and
// not ended.
func (s *Source) queuedOf(project string) (queued []*batchv1.Job, active int) {
	type state struct {
		queued        *batchv1.Job
		active, begun bool
	}
	runs := map[string]state{}
	s.mutex.Lock()
	for _, namespace := range s.namespaces {
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
	s.mutex.Unlock()
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
