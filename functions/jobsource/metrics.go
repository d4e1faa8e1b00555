package jobsource

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// observe registers the gauges.
func (s *Source) observe() {
	_, unwatchedErr := s.Meter.Int64ObservableGauge("jobsource.namespaces.unwatched", metric.WithUnit("{namespace}"),
		metric.WithDescription("Namespaces of Jobs that cannot be watched: they do not exist, or lack the roles."),
		metric.WithInt64Callback(func(_ context.Context, observer metric.Int64Observer) error {
			observer.Observe(int64(len(s.unsynced())))
			return nil
		}))
	_, unreportedErr := s.Meter.Float64ObservableGauge("job_executor.job.unreported.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the end of the oldest run whose result Keptn does not have."),
		metric.WithFloat64Callback(func(_ context.Context, observer metric.Float64Observer) error {
			observer.Observe(unreportedFor(activeRuns(s.jobs()), s.Now()).Seconds())
			return nil
		}))
	if err := errors.Join(unwatchedErr, unreportedErr); err != nil {
		s.Log.Warn("registering metrics failed", "error", err)
	}
}

// unreportedFor returns the age of the oldest unreported result.
func unreportedFor(runs [][]*batchv1.Job, now time.Time) time.Duration {
	oldest := now
	for _, jobs := range runs {
		if slices.ContainsFunc(jobs, run.IsActive) {
			continue
		}
		var ended time.Time
		for _, job := range jobs {
			if at := run.FinishedAt(job); at.After(ended) {
				ended = at
			}
		}
		if !ended.IsZero() && ended.Before(oldest) {
			oldest = ended
		}
	}
	return now.Sub(oldest)
}
