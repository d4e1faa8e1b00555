package jobsource

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// unstarted returns the Job that missed its start deadline, or waits for so long that Keptn's log should say why; or
// no Job, and when to look again.
func (s *Source) unstarted(runID string, jobs []*batchv1.Job) (job *batchv1.Job, how string, again time.Duration) {
	pending := map[types.UID]time.Time{}
	logged := s.recall(runID, func(known *remembered) {
		for _, job := range jobs {
			if run.PhaseOf(job) != run.Running || hasStarted(job) {
				continue
			}
			since, ok := known.pending[job.UID]
			if !ok {
				since = s.Now()
			}
			pending[job.UID] = since
		}
		known.pending = pending
	}).logged
	for _, job := range jobs {
		since, ok := pending[job.UID]
		if !ok {
			continue
		}
		left := since.Add(s.StartDeadline).Sub(s.Now())
		if left <= 0 {
			return job, protocol.JobUnstarted, 0
		}
		if until := since.Add(logWaitingAfter).Sub(s.Now()); !logged[job.UID] && until <= 0 {
			return job, protocol.JobPending, 0
		} else if !logged[job.UID] {
			left = min(left, until)
		}
		if again == 0 || left < again {
			again = left
		}
	}
	return nil, "", again
}

// logWaitingAfter is how long a Job waits before Keptn's log says why.
const logWaitingAfter = 30 * time.Second

// hasStarted reports whether the current attempt of a Job has started: its pod is ready or has ended. A new attempt
// starts like the first one.
func hasStarted(job *batchv1.Job) bool {
	isReady := job.Status.Ready != nil && *job.Status.Ready > 0
	return isReady || job.Status.Active == 0 && (job.Status.Succeeded > 0 || job.Status.Failed > 0)
}
