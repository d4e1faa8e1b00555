package jobsource

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/run"
)

// remembered is the memory of a run that its Jobs do not hold.
type remembered struct {
	// sent is the last completion, times the number of attempts, and next the time of the next one.
	sent  string
	times int
	next  time.Time
	// gone is a deleted Job.
	gone *batchv1.Job
	// pending is when each Job without a started pod was first seen. Kubernetes' own times are by another
	// clock, which may be wrong or jump.
	pending map[types.UID]time.Time
	// logged has the waiting Jobs with an entry in Keptn's log.
	logged map[types.UID]bool
}

func (r remembered) isNothing() bool {
	return r.sent == "" && r.gone == nil && len(r.pending) == 0 && len(r.logged) == 0
}

func (s *Source) remember(job *batchv1.Job) {
	s.recall(job.Labels[run.EventIDLabel], func(known *remembered) {
		if known.gone == nil && len(s.runs) < maxRuns || known.gone != nil && run.PhaseOf(known.gone) == run.Waiting {
			known.gone = job
		}
	})
}

// recall changes the memory of a run, and returns it.
func (s *Source) recall(runID string, change func(*remembered)) remembered {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	known := s.runs[runID]
	if change(&known); known.isNothing() {
		delete(s.runs, runID)
		return known
	}
	if s.runs == nil {
		s.runs = map[string]remembered{}
	}
	s.runs[runID] = known
	return known
}

func (s *Source) forget(runID string) {
	s.recall(runID, func(known *remembered) { *known = remembered{} })
}
