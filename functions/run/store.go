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

// Settings are the namespaces and the installation of Jobs.
type Settings struct {
	// Namespaces are the namespaces of Jobs. The first one is the default.
	Namespaces []string `env:"JOB_NAMESPACES,notEmpty"`
	// Installation distinguishes the Jobs of several installations.
	Installation string `env:"INSTALLATION" envDefault:"job-executor"`
}

// Store returns a store of these Jobs.
func (s Settings) Store(client cluster.Client) *Store {
	return &Store{Client: client, Namespaces: s.Namespaces, Installation: s.Installation}
}

// Store reads and changes the Jobs of runs on a cluster.
type Store struct {
	Client cluster.Client
	// Namespaces are the namespaces of Jobs.
	Namespaces []string
	// Installation is the label of the Jobs.
	Installation string
}

// concurrentLists bounds how many namespaces are listed at a time.
const concurrentLists = 16

// RefusedError means that Jobs of a run may exist in namespaces that cannot be listed: they were deleted, or
// lack roles.
type RefusedError struct {
	Namespaces []string
	// Err is the API server's error.
	Err error
}

// Error returns the API server's message.
func (r *RefusedError) Error() string { return r.Err.Error() }

// Unwrap returns the API server's error.
func (r *RefusedError) Unwrap() error { return r.Err }

// List returns all Jobs of a run in their order. A namespace that cannot be listed, because its roles are
// missing or it was deleted, must not block the others. If a planned Job should be there, or no namespace can
// be listed, List returns a RefusedError and the Jobs that it found.
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

// Create creates a Job and returns it. It returns nil if the Job already exists, which is a success.
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

// own returns an error if another installation has a Job of this name.
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

// Admit starts a queued Job.
func (s *Store) Admit(ctx context.Context, job *batchv1.Job) error {
	return s.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{QueuedAnnotation: nil}},
		"spec":     map[string]any{"suspend": false},
	})
}

// GiveUp suspends a Job that could not start, so that its pods are deleted. It records why and when.
func (s *Store) GiveUp(ctx context.Context, job *batchv1.Job, why string, at time.Time) error {
	return s.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{FailureAnnotation: why, FailedAtAnnotation: at.UTC().Format(time.RFC3339Nano)}},
		"spec":     map[string]any{"suspend": true},
	})
}

// MarkSucceeded records why a Job that Kubernetes failed counts as succeeded.
func (s *Store) MarkSucceeded(ctx context.Context, job *batchv1.Job, why string) error {
	return s.patch(ctx, job, map[string]any{"metadata": map[string]any{"annotations": map[string]any{SucceededAnnotation: why}}})
}

// MarkReported records that Keptn has the result of the Job's run. A finished Job then expires, as by Expire.
func (s *Store) MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error {
	change := map[string]any{"metadata": map[string]any{"annotations": map[string]any{ReportedAnnotation: at.UTC().Format(time.RFC3339)}}}
	if spec, err := expiry(job, at); err == nil && !FinishedAt(job).IsZero() {
		change["spec"] = spec
	}
	return s.patch(ctx, job, change)
}

// expireAfter is how long Jobs are kept at least after their run is reported. It is longer than any delivery of
// the triggered event: a delivery that finds no Job would run it again.
const expireAfter = 3 * time.Minute

// Expire lets Kubernetes delete a finished Job after the seconds of its TTLAnnotation, but not within three
// minutes from now.
func (s *Store) Expire(ctx context.Context, job *batchv1.Job, now time.Time) error {
	if IsGivenUp(job) && FinishedAt(job).IsZero() {
		return s.Delete(ctx, job) // Kubernetes needs an end time to count from
	}
	spec, err := expiry(job, now)
	if err != nil {
		return err
	}
	return s.patch(ctx, job, map[string]any{"spec": spec})
}

// expiry returns the change of a finished Job's spec that makes Kubernetes delete it in time.
func expiry(job *batchv1.Job, now time.Time) (map[string]any, error) {
	seconds, err := strconv.ParseInt(job.Annotations[TTLAnnotation], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading annotation %s of Job %s/%s: %w", TTLAnnotation, job.Namespace, job.Name, err)
	}
	// Kubernetes counts from the end of the Job, which may be long ago.
	seconds = max(seconds, int64((now.Sub(FinishedAt(job)) + expireAfter).Seconds()))
	return map[string]any{"ttlSecondsAfterFinished": seconds}, nil
}

// patch changes a Job with the uid that was read, not a later Job of the same name. If the Job is gone, it
// returns nil.
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

// isOther reports whether a change was refused because the name now belongs to another Job, with another uid.
func isOther(err error) bool {
	return apierrors.IsConflict(err) && strings.Contains(err.Error(), "uid")
}

// Delete deletes a Job with its pods. It returns nil if the Job is gone, or if the name now belongs to another
// Job.
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
