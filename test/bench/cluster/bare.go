package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// bareJobs creates copies of one of our Jobs without our labels, and deletes them once they are as expected. It
// returns the elapsed time.
func (b *bench) bareJobs(ctx context.Context, count, atATime int, suspended bool, isDone func(job *batchv1.Job) bool) (time.Duration, error) {
	jobs := b.installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace)
	ours, err := jobs.List(ctx, metav1.ListOptions{LabelSelector: run.Selector, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("look for a Job to copy: %w", err)
	}
	if len(ours.Items) == 0 {
		return 0, errors.New("there is no Job to copy")
	}
	label := map[string]string{"bench": uuid.NewString()}
	spec := ours.Items[0].Spec
	spec.Suspend, spec.Selector, spec.TTLSecondsAfterFinished = &suspended, nil, nil
	spec.Template.Labels = label
	spec.Template.Spec.InitContainers = nil
	began := time.Now()
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(atATime)
	for index := range count {
		group.Go(func() error {
			_, err := jobs.Create(creating, &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bare-%s-%d", label["bench"][:8], index), Labels: label, Annotations: ours.Items[0].Annotations},
				Spec:       spec,
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("create Jobs in a bare loop: %w", err)
	}
	selected := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(label).String()}
	if isDone != nil {
		if err := console.Eventually(ctx, stepLimit, func(ctx context.Context) error {
			there, err := jobs.List(ctx, selected)
			for index := range there.Items {
				if err == nil && !isDone(&there.Items[index]) {
					err = fmt.Errorf("Job %s is not done", there.Items[index].Name)
				}
			}
			return err
		}); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	return took, b.deleteJobs(ctx, system.JobsNamespace, selected.LabelSelector)
}

// deleteJobs deletes the Jobs that a selector selects, until none is left. The API server may time out before one
// request has deleted many.
func (b *bench) deleteJobs(ctx context.Context, namespace, selector string) error {
	jobs, background := b.installed.Kubernetes.BatchV1().Jobs(namespace), metav1.DeletePropagationBackground
	selected := metav1.ListOptions{LabelSelector: selector}
	return console.Eventually(ctx, stepLimit, func(ctx context.Context) error {
		if err := jobs.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, selected); err != nil {
			return fmt.Errorf("delete Jobs: %w", err)
		}
		there, err := jobs.List(ctx, selected)
		if err == nil && len(there.Items) > 0 {
			err = fmt.Errorf("%d Jobs are left", len(there.Items))
		}
		return err
	})
}
