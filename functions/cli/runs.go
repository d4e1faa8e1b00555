package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher"
)

// The statuses of runs.
const (
	statusCreating = "creating" // its Jobs are not complete
	statusQueued   = "queued"   // it waits for other runs of its project
	statusRunning  = "running"
	statusErrored  = "errored"
)

// statuses returns all statuses, from the beginning of a run to its end.
func statuses() []string {
	return []string{statusCreating, statusQueued, statusRunning, string(keptn.ResultPass), string(keptn.ResultWarning), string(keptn.ResultFail), statusErrored}
}

// taskRun is a run as people see it: the Jobs of one task.
type taskRun struct {
	ID   string
	Task keptn.Task
	// Plan are all Jobs of the run, and Jobs the existing ones, in their order.
	Plan []run.Planned
	Jobs []batchv1.Job
	// Pods are the pods of each Job by its name, the oldest first.
	Pods   map[string][]corev1.Pod
	Status string
	// HasEnded is true if no Job runs or waits. Ended is when the last one ended.
	HasEnded bool
	Ended    time.Time
	// Missing are the Jobs that ended the run because they do not exist any more.
	Missing []run.Planned
	// ReportedAt is when Keptn was known to have the result; zero if it is not.
	ReportedAt time.Time
}

// began returns when Keptn triggered the task.
func (t *taskRun) began() time.Time {
	if !t.Task.TriggeredAt.IsZero() {
		return t.Task.TriggeredAt
	}
	return t.Jobs[0].CreationTimestamp.Time
}

// duration returns how long the run took, or takes so far.
func (t *taskRun) duration(now time.Time) time.Duration {
	if t.HasEnded && !t.Ended.IsZero() {
		now = t.Ended
	}
	return max(0, now.Sub(t.began()))
}

// done returns how many Jobs of the run have ended.
func (t *taskRun) done() int {
	done := 0
	for index := range t.Jobs {
		if !run.IsActive(&t.Jobs[index]) {
			done++
		}
	}
	return done
}

// job returns an existing Job, nil if there is none of that name.
func (t *taskRun) job(name string) *batchv1.Job {
	for index := range t.Jobs {
		if t.Jobs[index].Name == name {
			return &t.Jobs[index]
		}
	}
	return nil
}

// hasFailed reports whether an existing Job has ended and counts as failed.
func (t *taskRun) hasFailed(job *batchv1.Job) bool {
	return !run.IsActive(job) && watcher.OutcomeOf(job, t.Pods[job.Name]).Result == keptn.ResultFail
}

// isSettled reports whether Keptn needs nothing more of the run.
func (t *taskRun) isSettled() bool {
	return t.HasEnded && (!t.ReportedAt.IsZero() || run.IsSilent(&t.Jobs[0]))
}

// runsOf groups Jobs and pods by run. The newest run is first. Jobs that another program labelled are left out.
func runsOf(jobs []batchv1.Job, pods []corev1.Pod) []taskRun {
	podsOf := map[string][]corev1.Pod{}
	slices.SortStableFunc(pods, func(one, other corev1.Pod) int { return one.CreationTimestamp.Compare(other.CreationTimestamp.Time) })
	for _, pod := range pods {
		name := pod.Labels[batchv1.JobNameLabel]
		podsOf[name] = append(podsOf[name], pod)
	}
	byID := map[string][]batchv1.Job{}
	for _, job := range jobs {
		id := job.Labels[run.InstanceLabel] + "/" + job.Labels[run.EventIDLabel]
		byID[id] = append(byID[id], job)
	}
	var runs []taskRun
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if found, ok := runOf(byID[id], podsOf); ok {
			runs = append(runs, found)
		}
	}
	slices.SortStableFunc(runs, func(one, other taskRun) int {
		return cmp.Or(other.began().Compare(one.began()), cmp.Compare(one.ID, other.ID))
	})
	return runs
}

func runOf(jobs []batchv1.Job, pods map[string][]corev1.Pod) (taskRun, bool) {
	run.Sort(jobs)
	found := taskRun{ID: jobs[0].Labels[run.EventIDLabel], Jobs: jobs, Pods: pods, Plan: run.PlanOf(&jobs[0]), Status: statusRunning}
	if json.Unmarshal([]byte(jobs[0].Annotations[run.TaskAnnotation]), &found.Task) != nil {
		return taskRun{}, false
	}
	begun := false
	for index := range jobs {
		job := &jobs[index]
		begun = begun || run.PhaseOf(job) != run.Waiting || run.IsReported(job)
		if ended := run.EndedAt(job); ended.After(found.Ended) {
			found.Ended = ended
		}
		if at, err := time.Parse(time.RFC3339, job.Annotations[run.ReportedAnnotation]); err == nil && at.After(found.ReportedAt) {
			found.ReportedAt = at
		}
	}
	step := run.Next(jobs, begun)
	switch {
	case run.IsQueued(&jobs[0]):
		found.Status = statusQueued
	case !begun && len(jobs) < len(found.Plan):
		found.Status = statusCreating
	case step.Ended:
		found.HasEnded, found.Missing = true, step.Missing
		found.Status = statusOf(step, pods)
	}
	return found, true
}

// statusOf returns the status of an ended run: that of its worst Job. Silent actions count only where all are.
func statusOf(step run.Step, pods map[string][]corev1.Pod) string {
	if len(step.Missing) > 0 {
		return statusErrored
	}
	worst := string(keptn.ResultPass)
	for _, ran := range step.Ran {
		if !step.IsSilent(ran.Planned) {
			outcome := watcher.OutcomeOf(ran.Job, pods[ran.Name])
			worst = worse(worst, answered(outcome.Status, outcome.Result))
		}
	}
	return worst
}

// fetch reads the runs that a selector selects in a namespace; empty for all.
func fetch(ctx context.Context, client kubernetes.Interface, namespace, selector string) ([]taskRun, error) {
	options := metav1.ListOptions{LabelSelector: selector}
	jobs, err := collect[batchv1.Job](ctx, options, func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.BatchV1().Jobs(namespace).List(ctx, options)
	})
	if err != nil {
		return nil, fmt.Errorf("list the Jobs in %s: %w", placeOf(namespace), err)
	}
	pods, err := collect[corev1.Pod](ctx, options, func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Pods(namespace).List(ctx, options)
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods in %s: %w", placeOf(namespace), err)
	}
	return runsOf(jobs, pods), nil
}

// collect returns the objects of all pages of a list.
func collect[T any](ctx context.Context, options metav1.ListOptions, list pager.ListPageFunc) (all []T, err error) {
	err = pager.New(list).EachListItem(ctx, options, func(object runtime.Object) error {
		if found, ok := any(object).(*T); ok {
			all = append(all, *found)
		}
		return nil
	})
	return all, err
}

func placeOf(namespace string) string {
	if namespace == "" {
		return "all namespaces"
	}
	return "namespace " + namespace
}

// contextBytes is the length of a Keptn context. Shorter arguments are the beginning of one.
const contextBytes = 36

// notFoundError means that a namespace lacks runs of a Keptn context.
type notFoundError struct{ keptnContext, namespace string }

func (n *notFoundError) Error() string {
	return fmt.Sprintf("%s has no run of Keptn context %s; runs are deleted some time after their end, and a task without a matching action has none", placeOf(n.namespace), n.keptnContext)
}

// selectorOf selects the Jobs and pods of a Keptn context, or all if the argument may be the beginning of one.
func selectorOf(keptnContext string) string {
	if len(keptnContext) < contextBytes {
		return run.Selector
	}
	return run.Selector + "," + run.ContextLabel + "=" + run.LabelValue(keptnContext)
}

// find returns the runs of a Keptn context, or of the only one that begins with the argument, the oldest first. Without any it returns
// a notFoundError.
func find(ctx context.Context, client kubernetes.Interface, namespace, keptnContext string) ([]taskRun, error) {
	runs, err := fetch(ctx, client, namespace, selectorOf(keptnContext))
	if err != nil {
		return nil, err
	}
	runs = slices.DeleteFunc(runs, func(found taskRun) bool { return !strings.HasPrefix(found.Task.Context, keptnContext) })
	if len(runs) == 0 {
		return nil, &notFoundError{keptnContext, namespace}
	}
	contexts := map[string]bool{}
	for _, found := range runs {
		contexts[found.Task.Context] = true
	}
	if len(contexts) > 1 {
		return nil, fmt.Errorf("%d Keptn contexts begin with %s: %s", len(contexts), keptnContext, strings.Join(slices.Sorted(maps.Keys(contexts)), ", "))
	}
	slices.Reverse(runs)
	return runs, nil
}
