package run

import "time"

// The phases of a Job: it waits for the Jobs before it, it waits for its pod, and its container runs.
const (
	PhaseQueued  = "queued"
	PhasePending = "pending"
	PhaseRun     = "run"
)

// Phases are how long each phase of a Job took, by name. Phases that the Job did not have are absent.
type Phases map[string]time.Duration
