package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/run"
)

// Settings are the namespaces and the installation of Jobs.
type Settings struct {
	// Namespaces are the namespaces of Jobs. The first one is the default.
	Namespaces []string `env:"JOB_NAMESPACES,notEmpty"`
	// Installation distinguishes the Jobs of several installations.
	Installation string `env:"INSTALLATION" envDefault:"job-executor"`
}

// Jobs returns the store of these Jobs.
func (s Settings) Jobs(client cluster.Client) *Jobs {
	return &Jobs{Client: client, Namespaces: s.Namespaces, Installation: s.Installation}
}

// Jobs reads and changes the Jobs of runs on a cluster.
type Jobs struct {
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
func (j *Jobs) List(ctx context.Context, runID string) ([]batchv1.Job, error) {
	var mutex sync.Mutex
	var jobs []batchv1.Job
	refused := map[string]error{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentLists)
	for _, namespace := range j.Namespaces {
		group.Go(func() error {
			list, err := j.Client.Jobs(namespace).List(ctx, metav1.ListOptions{LabelSelector: run.SelectorOf(j.Installation) + "," + run.EventIDLabel + "=" + runID})
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				err = fmt.Errorf("list the Jobs of run %s in namespace %s: %w", runID, namespace, err)
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
	run.Sort(jobs)
	if len(jobs) == 0 && len(refused) == len(j.Namespaces) {
		return nil, &RefusedError{slices.Sorted(maps.Keys(refused)), errors.Join(slices.Collect(maps.Values(refused))...)}
	}
	for index := range jobs {
		for _, planned := range run.PlanOf(&jobs[index]) {
			if err := refused[planned.Namespace]; err != nil {
				return jobs, &RefusedError{slices.Sorted(maps.Keys(refused)), err}
			}
		}
	}
	return jobs, nil
}

// Create creates a Job and returns it; nil means that the Job already exists, which is a success.
func (j *Jobs) Create(ctx context.Context, job *batchv1.Job) (created *batchv1.Job, err error) {
	created, err = j.Client.Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil, j.own(ctx, job)
	}
	if err != nil {
		return nil, fmt.Errorf("create Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return created, nil
}

// own returns an error if another installation has a Job of this name.
func (j *Jobs) own(ctx context.Context, job *batchv1.Job) error {
	there, err := j.Client.Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	if owner := there.Labels[run.InstanceLabel]; owner != j.Installation {
		return apierrors.NewForbidden(batchv1.Resource("jobs"), job.Name, fmt.Errorf("installation %q has a Job of this name in namespace %s; let the two run their Jobs in different namespaces", owner, job.Namespace))
	}
	return nil
}

// Delete deletes a Job with its pods. It returns nil if the Job is gone, or if the name now belongs to another
// Job.
func (j *Jobs) Delete(ctx context.Context, job *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if job.UID != "" {
		options.Preconditions = metav1.NewUIDPreconditions(string(job.UID))
	}
	err := j.Client.Jobs(job.Namespace).Delete(ctx, job.Name, options)
	if err != nil && !apierrors.IsNotFound(err) && !isOther(err) {
		return fmt.Errorf("delete Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}
