package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/run"
)

// Resume starts a suspended Job.
func (j *Jobs) Resume(ctx context.Context, job *batchv1.Job) error {
	return j.patch(ctx, job, map[string]any{"spec": map[string]any{"suspend": false}})
}

// Admit starts a queued Job.
func (j *Jobs) Admit(ctx context.Context, job *batchv1.Job) error {
	return j.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{run.QueuedAnnotation: nil, run.AdmittedAnnotation: job.Annotations[run.QueuedAnnotation]}},
		"spec":     map[string]any{"suspend": false},
	})
}

// GiveUp suspends a Job that could not start, so that its pods are deleted. It records why and when.
func (j *Jobs) GiveUp(ctx context.Context, job *batchv1.Job, why string, at time.Time) error {
	return j.patch(ctx, job, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{run.FailureAnnotation: why, run.FailedAtAnnotation: at.UTC().Format(time.RFC3339Nano)}},
		"spec":     map[string]any{"suspend": true},
	})
}

// MarkSucceeded records why a Job that Kubernetes failed counts as succeeded.
func (j *Jobs) MarkSucceeded(ctx context.Context, job *batchv1.Job, why string) error {
	return j.patch(ctx, job, map[string]any{"metadata": map[string]any{"annotations": map[string]any{run.SucceededAnnotation: why}}})
}

// MarkReported records that Keptn has the result of the Job's run. A finished Job then expires, as by Expire.
func (j *Jobs) MarkReported(ctx context.Context, job *batchv1.Job, at time.Time) error {
	change := map[string]any{"metadata": map[string]any{"annotations": map[string]any{run.ReportedAnnotation: at.UTC().Format(time.RFC3339)}}}
	if spec, err := expiry(job, at); err == nil && !run.FinishedAt(job).IsZero() {
		change["spec"] = spec
	}
	return j.patch(ctx, job, change)
}

// expireAfter is how long Jobs are kept at least after their run is reported. It is longer than any delivery of
// the triggered event: a delivery that finds no Job would run it again.
const expireAfter = 3 * time.Minute

// Expire lets Kubernetes delete a finished Job after the seconds of its TTLAnnotation, but not within three
// minutes from now.
func (j *Jobs) Expire(ctx context.Context, job *batchv1.Job, now time.Time) error {
	if run.IsGivenUp(job) && run.FinishedAt(job).IsZero() {
		return j.Delete(ctx, job) // Kubernetes needs an end time to count from
	}
	spec, err := expiry(job, now)
	if err != nil {
		return err
	}
	return j.patch(ctx, job, map[string]any{"spec": spec})
}

// expiry returns the change of a finished Job's spec that makes Kubernetes delete it in time.
func expiry(job *batchv1.Job, now time.Time) (map[string]any, error) {
	seconds, err := strconv.ParseInt(job.Annotations[run.TTLAnnotation], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read annotation %s of Job %s/%s: %w", run.TTLAnnotation, job.Namespace, job.Name, err)
	}
	// Kubernetes counts from the end of the Job, which may be long ago.
	seconds = max(seconds, int64((now.Sub(run.FinishedAt(job)) + expireAfter).Seconds()))
	return map[string]any{"ttlSecondsAfterFinished": seconds}, nil
}

// patch changes the Job with the given uid, not a later Job of the same name. If the Job is gone, it
// returns nil.
func (j *Jobs) patch(ctx context.Context, job *batchv1.Job, change map[string]any) error {
	metadata, _ := change["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"] = job.UID
	change["metadata"] = metadata
	content, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode a change of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	_, err = j.Client.Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, content, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !isOther(err) {
		return fmt.Errorf("change Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// isOther reports whether a change was refused because the name now belongs to another Job, with another uid.
func isOther(err error) bool {
	return apierrors.IsConflict(err) && strings.Contains(err.Error(), "uid")
}
