package jobsource

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Reconcile advances a run, given all of its Jobs. It sends a completion and resends it until the run is
// reported. Then it lets the Jobs expire. It returns when to reconcile again; 0 means when a Job changes.
func (s *Source) Reconcile(ctx context.Context, runID string, jobs []*batchv1.Job) (again time.Duration, err error) {
	if len(jobs) > 0 && !slices.ContainsFunc(jobs, func(job *batchv1.Job) bool { return !run.IsReported(job) || run.IsActive(job) }) {
		s.forget(runID)
		var failures []error
		for _, job := range jobs {
			if job.Spec.TTLSecondsAfterFinished == nil {
				failures = append(failures, s.Marker.Expire(ctx, job, s.Now()))
			}
		}
		return 0, errors.Join(failures...)
	}
	last := s.recall(runID, func(*remembered) {})
	job, how, pause := s.news(runID, jobs, last.gone)
	if job == nil {
		if len(jobs) == 0 {
			s.forget(runID)
		}
		return pause, nil
	}
	ended := 0
	for _, job := range jobs {
		if !run.IsActive(job) {
			ended++
		}
	}
	what := fmt.Sprintf("%s %s, %d ended", how, job.Name, ended)
	if last.sent != what {
		last.times = 0
	} else if wait := last.next.Sub(s.Now()); wait > 0 {
		return wait, nil
	}
	if last.times > 0 {
		s.Events.Retried(ctx, protocol.CompletedType)
	}
	if err := s.send(ctx, job, how); err != nil {
		return 0, err
	}
	pause = min(firstRepeat<<min(last.times, 8), lastRepeat)
	// A silent run has no result that Keptn could confirm. The bridge confirms it when the run is announced.
	// A run without Jobs cannot be announced.
	isLast := run.IsSilent(job) && how != protocol.JobUnstarted && ended == len(jobs)
	if isLast && len(jobs) == 0 {
		s.forget(runID)
		return 0, nil
	}
	if isLast {
		pause = resync
	}
	if how == protocol.JobPending {
		s.recall(runID, func(known *remembered) {
			known.logged = map[types.UID]bool{job.UID: true}
			for uid := range last.logged {
				known.logged[uid] = true
			}
		})
		return time.Second, nil
	}
	s.recall(runID, func(known *remembered) {
		known.sent, known.times, known.next = what, last.times+1, s.Now().Add(pause)
	})
	s.Log.InfoContext(ctx, "completion sent", "run", runID, "job", job.Name, "namespace", job.Namespace, "how", how, "times", last.times+1)
	if isLast {
		return 0, nil
	}
	return pause, nil
}

// news returns what has happened to a run: the Job and how it completed; or no Job, and when to look again. Gone is a
// Job of the run that was deleted, if any.
func (s *Source) news(runID string, jobs []*batchv1.Job, gone *batchv1.Job) (job *batchv1.Job, how string, again time.Duration) {
	if len(jobs) == 0 {
		return gone, protocol.JobDeleted, 0
	}
	values := make([]batchv1.Job, 0, len(jobs))
	for _, job := range jobs {
		values = append(values, *job)
	}
	switch step := run.Next(values, gone != nil); {
	case !step.Ended && len(step.Resume) == 0:
	case len(step.Ran)+len(step.Missing) == 0:
		return jobs[0], protocol.JobBegun, 0
	case len(step.Missing) > 0:
		return cmp.Or(gone, jobs[0]), protocol.JobDeleted, 0
	default:
		return step.Ran[len(step.Ran)-1].Job, protocol.JobFinished, 0
	}
	return s.unstarted(runID, jobs)
}

func (s *Source) send(ctx context.Context, job *batchv1.Job, how string) error {
	completed := protocol.Completed(job, how, s.Now())
	var task keptn.Task // without a task there is no trace
	_ = json.Unmarshal([]byte(job.Annotations[run.TaskAnnotation]), &task)
	ctx, span := telemetry.StartSend(ctx, s.Tracer, task, completed, telemetry.ToBroker)
	defer span.End()
	span.SetAttributes(semconv.K8SJobName(job.Name), semconv.K8SNamespaceName(job.Namespace))
	if err := s.Sender.Send(ctx, completed); err != nil {
		telemetry.Note(span, "not accepted; retrying", err)
		return fmt.Errorf("send the completion of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// Handle receives the bridge's notice that a run is reported, and marks its Jobs. The change of the Jobs comes back as
// a watch event.
func (s *Source) Handle(ctx context.Context, reported event.Event) (*event.Event, error) {
	notice, err := protocol.NoticeOf(reported, protocol.ReportedType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	runID := notice.RunID
	jobs, complete := s.jobsOf(runID)
	var failures []error
	for _, job := range jobs {
		if !run.IsReported(job) {
			failures = append(failures, s.Marker.MarkReported(ctx, job, s.Now()))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	if complete {
		s.forget(runID)
	}
	s.Log.InfoContext(ctx, "run reported", "run", runID, "jobs", len(jobs))
	return nil, nil
}
