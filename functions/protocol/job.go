package protocol

import (
	"time"

	"github.com/job-executor/job-executor/functions/keptn"
)

// The phases of a Job. Queued and finalizing belong to the Job, all others to one of its attempts.
const (
	// PhaseQueued is the wait for the Jobs before it, or for fewer active runs of its project.
	PhaseQueued = "queued"
	// PhasePending is the wait for an attempt's first container.
	PhasePending = "pending"
	// PhaseFetch is the init container.
	PhaseFetch = "fetch files"
	// PhaseStarting is the wait from the end of the init container until the task's containers run.
	PhaseStarting = "starting"
	// PhaseRun is the task's containers.
	PhaseRun = "run"
	// PhaseBackOff is the wait between two attempts.
	PhaseBackOff = "back-off"
	// PhaseFinalizing is the time from the end of the last container until Kubernetes finished the Job.
	PhaseFinalizing = "finalizing"
)

// Job is the report of an ended Job. The watcher sends it. The bridge writes the spans and metrics once,
// because the watcher may report the end of a Job several times.
type Job struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// Action and Task are the names in job/config.yaml.
	Action string          `json:"action"`
	Task   string          `json:"task"`
	Result keptn.RunResult `json:"result"`
	// Failure is the user's message about the failure, empty on success.
	Failure string    `json:"failure,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// Phases are sorted by their beginning.
	Phases []Phase `json:"phases,omitempty"`
}

// Phase is a part of a Job's time. Its duration may be zero, because Kubernetes' times are whole seconds.
type Phase struct {
	Name string `json:"name"`
	// Attempt is the number of the pod, from 1; 0 outside attempts.
	Attempt int       `json:"attempt,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// Failure is the reason of a failed phase.
	Failure string `json:"failure,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	// ExitCode is that of the last container to end; nil if none ended.
	ExitCode *int32 `json:"exitCode,omitempty"`
	// Events are Kubernetes' events during the phase.
	Events []PodEvent `json:"events,omitempty"`
}

// PodEvent is a Kubernetes event about a Job or its pods.
type PodEvent struct {
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
}
