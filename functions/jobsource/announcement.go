package jobsource

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

const (
	// A round of announcements must end before the bridge assumes that the runs are gone.
	concurrentAnnouncements = 16
	announceTimeout         = 30 * time.Second
)

// announceAll announces unreported runs, at the start and at every interval. So a new bridge learns of
// runs that started before it, and the runs learn that Keptn no longer waits.
func (s *Source) announceAll(ctx context.Context) {
	ticker := time.NewTicker(s.ActiveInterval)
	defer ticker.Stop()
	for {
		var group errgroup.Group
		group.SetLimit(concurrentAnnouncements)
		for _, active := range activeRuns(s.jobs()) {
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, announceTimeout)
				defer cancel()
				if err := s.Sender.Send(ctx, protocol.Active(active, s.Now())); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
					s.Log.WarnContext(ctx, "announcing a run failed; retrying", "run", active[0].Labels[run.EventIDLabel], "error", err)
				}
				return nil
			})
		}
		_ = group.Wait() // no announcement returns an error
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// activeRuns returns the Jobs of each unreported run, sorted by name.
func activeRuns(jobs []*batchv1.Job) [][]*batchv1.Job {
	slices.SortFunc(jobs, func(one, other *batchv1.Job) int { return cmp.Compare(one.Name, other.Name) })
	runs := map[string][]*batchv1.Job{}
	for _, job := range jobs {
		runs[job.Labels[run.EventIDLabel]] = append(runs[job.Labels[run.EventIDLabel]], job)
	}
	var active [][]*batchv1.Job
	for _, runID := range slices.Sorted(maps.Keys(runs)) {
		if slices.ContainsFunc(runs[runID], func(job *batchv1.Job) bool { return !run.IsReported(job) }) {
			active = append(active, runs[runID])
		}
	}
	return active
}
