package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/cluster"
)

// Settings are whose Jobs a function has to do with, and where they are.
type Settings struct {
	// Namespaces are those in which Jobs may run; the first is the default.
	Namespaces []string `env:"JOB_NAMESPACES,notEmpty"`
	// Installation tells the Jobs of several installations apart.
	Installation string `env:"INSTALLATION" envDefault:"job-executor"`
}

// Store returns the store of these Jobs.
func (s Settings) Store(client cluster.Client) *Store {
	return &Store{Client: client, Namespaces: s.Namespaces, Installation: s.Installation}
}

// Store reads and changes the Jobs of runs on a cluster.
type Store struct {
	Client cluster.Client
	// Namespaces are those in which Jobs may run.
	Namespaces []string
	// Installation is the one whose Jobs they are.
	Installation string
}

// concurrentLists bounds how many namespaces are listed at a time.
const concurrentLists = 16

// RefusedError says that Jobs of a run may be in namespaces in which they can't be listed:
// each was deleted, or lacks its roles.
type RefusedError struct {
	// Namespaces are those.
	Namespaces []string
	// Err is what the API server said.
	Err error
}

// Error returns what the API server said.
func (r *RefusedError) Error() string { return r.Err.Error() }

// Unwrap returns it as an error.
func (r *RefusedError) Unwrap() error { return r.Err }

// List returns all Jobs of a run, in their order. A namespace in which Jobs can't be
// listed, since its roles are missing or it was deleted, must not stop what is in the
// others; if a Job of the run's plan should be there, or no namespace can be listed, the
// error is a RefusedError, and the Jobs are those that were found.
func (s *Store) List(ctx context.Context, runID string) ([]batchv1.Job, error) {
	var mutex sync.Mutex
	var jobs []batchv1.Job
	refused := map[string]error{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentLists)
	for _, namespace := range s.Namespaces {
		group.Go(func() error {
			list, err := s.Client.Jobs(namespace).List(ctx, metav1.ListOptions{LabelSelector: SelectorOf(s.Installation) + "," + EventIDLabel + "=" + runID})
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				err = fmt.Errorf("listing the Jobs of run %s in namespace %s: %w", runID, namespace, err)
				if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
					return err
				}
				refused[namespace] = err
				return nil
			}
			jobs = append(jobs, list.Items...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	Sort(jobs)
	if len(jobs) == 0 && len(refused) == len(s.Namespaces) {
		return nil, &RefusedError{slices.Sorted(maps.Keys(refused)), errors.Join(slices.Collect(maps.Values(refused))...)}
	}
	for index := range jobs {
		for _, planned := range PlanOf(&jobs[index]) {
			if err := refused[planned.Namespace]; err != nil {
				return jobs, &RefusedError{slices.Sorted(maps.Keys(refused)), err}
			}
		}
	}
	return jobs, nil
}

// Create creates a Job and returns it; nil if it exists already, which is success.
func (s *Store) Create(ctx context.Context, job *batchv1.Job) (created *batchv1.Job, err error) {
	created, err = s.Client.Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil, s.own(ctx, job)
	}
	if err != nil {
		return nil, fmt.Errorf("creating Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return created, nil
}

// own makes sure that the Job of a name is this installation's.
func (s *Store) own(ctx context.Context, job *batchv1.Job) error {
	there, err := s.Client.Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	if owner := there.Labels[InstanceLabel]; owner != s.Installation {
		return apierrors.NewForbidden(batchv1.Resource("jobs"), job.Name, fmt.Errorf("installation %q has a Job of this name in namespace %s; let the two run their Jobs in different namespaces", owner, job.Namespace))
	}
	return nil
}

// Resume starts a suspended Job.
func (s *Store) Resume(ctx context.Context, job *batchv1.Job) error {
	return s.patch(ctx, job, map[string]any{"spec": map[string]any{"suspend": false}})
}

// Admit starts a Job that is queued.
func (s *Store) Admit(ctx context.Context, job *batchv1.Job) error {
	return s.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{QueuedAnnotation: nil}},
		"spec":     map[string]any{"suspend": false},
	})
}

// GiveUp suspends a Job that could not start, so that its pods are deleted, and notes
// why and when on it.
func (s *Store) GiveUp(ctx context.Context, job *batchv1.Job, why string, at time.Time) error {
	return s.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{FailureAnnotation: why, FailedAtAnnotation: at.UTC().Format(time.RFC3339Nano)}},
		"spec":     map[string]any{"suspend": true},
	})
}

// MarkSucceeded notes on a Job that Kubernetes failed why it counts as succeeded.
func (s *Store) MarkSucceeded(ctx context.Context, job *batchv1.Job, why string) error {
	return s.patch(ctx, job, map[string]any{"metadata": map[string]any{"annotations": map[string]any{SucceededAnnotation: why}}})
}

// MarkReported notes on a Job that Keptn has its run's result. One that has finished expires then, as by
// Expire.
func (s *Store) MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error {
	change := map[string]any{"metadata": map[string]any{"annotations": map[string]any{ReportedAnnotation: at.UTC().Format(time.RFC3339)}}}
	if spec, err := expiry(job, at); err == nil && !FinishedAt(job).IsZero() {
		change["spec"] = spec
	}
	return s.patch(ctx, job, change)
}

// expireAfter is the least time between the report of a run and the end of its
// Jobs. It is longer than a delivery of the triggered event can be under way: one
// that finds no Job would run it again.
const expireAfter = 3 * time.Minute

// Expire has Kubernetes delete a finished Job once the seconds of its TTLAnnotation
// are over, but not within three minutes from now.
func (s *Store) Expire(ctx context.Context, job *batchv1.Job, now time.Time) error {
	if IsGivenUp(job) && FinishedAt(job).IsZero() {
		return s.Delete(ctx, job) // Kubernetes has nothing to count from
	}
	spec, err := expiry(job, now)
	if err != nil {
		return err
	}
	return s.patch(ctx, job, map[string]any{"spec": spec})
}

// expiry is what is changed of a finished Job's spec so that Kubernetes deletes it in time.
func expiry(job *batchv1.Job, now time.Time) (map[string]any, error) {
	seconds, err := strconv.ParseInt(job.Annotations[TTLAnnotation], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading annotation %s of Job %s/%s: %w", TTLAnnotation, job.Namespace, job.Name, err)
	}
	// Kubernetes counts from the Job's end, which may be long ago.
	seconds = max(seconds, int64((now.Sub(FinishedAt(job)) + expireAfter).Seconds()))
	return map[string]any{"ttlSecondsAfterFinished": seconds}, nil
}

// patch changes a Job that has the uid that was read: not one that was created
// by the same name since. That the Job is gone is success.
func (s *Store) patch(ctx context.Context, job *batchv1.Job, change map[string]any) error {
	metadata, _ := change["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"] = job.UID
	change["metadata"] = metadata
	content, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encoding a change of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	_, err = s.Client.Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, content, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !isOther(err) {
		return fmt.Errorf("changing Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// isOther says whether a change was refused since the Job of this name is another one
// by now, which has another uid.
func isOther(err error) bool {
	return apierrors.IsConflict(err) && strings.Contains(err.Error(), "uid")
}

// Delete deletes a Job with its pods; that it is gone already is success, and so is
// that another one has its name by now.
func (s *Store) Delete(ctx context.Context, job *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if job.UID != "" {
		options.Preconditions = metav1.NewUIDPreconditions(string(job.UID))
	}
	err := s.Client.Jobs(job.Namespace).Delete(ctx, job.Name, options)
	if err != nil && !apierrors.IsNotFound(err) && !isOther(err) {
		return fmt.Errorf("deleting Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}
