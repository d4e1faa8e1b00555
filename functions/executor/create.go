package executor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// create creates the first Job last. Until it exists nothing runs, and another delivery continues where this
// one was interrupted. Once it exists the run is complete, and deleted Jobs are not created again. If an
// earlier attempt used another version of the file, its Jobs are deleted and the run starts over. A run with
// one Job of an unchangeable file is created without listing first: its name is unique, so a duplicate create
// fails with AlreadyExists.
func (e *Executor) create(ctx context.Context, jobs []batchv1.Job, received event.Event, state begin) error {
	if len(jobs) == 0 || state.started {
		return nil
	}
	ctx, span := e.Tracer.Start(ctx, "create Jobs", trace.WithAttributes(attribute.Int("job_executor.jobs", len(jobs))))
	defer span.End()
	first := &jobs[0]
	if e.Configuration.MaxActiveRuns > 0 {
		at := received.Time()
		if at.IsZero() {
			at = e.Now()
		}
		run.Queue(first, at)
	}
	var there []batchv1.Job
	if len(jobs) > 1 || !state.pinned {
		var err error
		if there, err = e.Jobs.List(ctx, first.Labels[run.EventIDLabel]); err != nil {
			return err
		}
	}
	begunAt := e.Now().UTC().Format(time.RFC3339Nano)
	begun := false
	for index := range there {
		begun = begun || there[index].Name == first.Name || run.PhaseOf(&there[index]) != run.Waiting
	}
	if begun {
		return nil
	}
	for index := range there {
		if there[index].Labels[run.ConfigHashLabel] != first.Labels[run.ConfigHashLabel] {
			if err := e.Jobs.Delete(ctx, &there[index]); err != nil {
				return err
			}
		}
	}
	for index := range jobs {
		job := &jobs[(index+1)%len(jobs)]
		if job == first && e.Now().Sub(state.asked) > freshFor {
			grant, err := e.Files.Grant(ctx, received)
			if errors.Is(err, files.ErrOver) || err == nil && grant.Started {
				return nil // another delivery has begun it, and its Jobs may be gone
			}
			if err != nil {
				return err
			}
		}
		job.Annotations[run.CreatedAnnotation] = begunAt
		created, err := e.Jobs.Create(ctx, job)
		switch {
		case err == nil && created != nil:
			there = append(there, *created)
		case err == nil && job == first:
			return nil // another delivery was faster
		case err != nil && isRefusal(err) && !isQuota(err):
			if failure := e.discard(ctx, there); failure != nil {
				return failure // report only after all Jobs are deleted
			}
			// This is RBAC's message. A webhook, or a Job of another installation, also causes Forbidden.
			if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create resource") || apierrors.IsNotFound(err) {
				err = noNamespace(job.Namespace, err)
			}
			telemetry.Fail(span, string(keptn.RunError), err.Error())
			return plan.Mistakef("Error while creating job: %w", err)
		case err != nil:
			return err
		}
	}
	e.Log.InfoContext(ctx, "run created", "job", first.Name, "namespace", first.Namespace, "jobs", len(jobs))
	return nil
}

// begin is the state of a task before its run is created.
type begin struct {
	// asked is when Keptn was asked whether the task has started.
	asked time.Time
	// started is true if it has.
	started bool
	// pinned is true if the file is at a commit, and so the same for every delivery.
	pinned bool
}

// freshFor is how long Keptn's answer that a task has not started is trusted.
const freshFor = 2 * time.Second

// isRefusal reports whether the API server rejected the Job itself, so that a retry is useless.
func isRefusal(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}

// isQuota reports whether a quota is used up. That is temporary, and not the task author's mistake.
func isQuota(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// discard deletes the created Jobs of a run that cannot be completed, but no Jobs of others with their names.
func (e *Executor) discard(ctx context.Context, jobs []batchv1.Job) error {
	var failures []error
	for index := range jobs {
		failures = append(failures, e.Jobs.Delete(ctx, &jobs[index]))
	}
	return errors.Join(failures...)
}
