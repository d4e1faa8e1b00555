package run

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Labels of a Job. Those below keptn.sh are the job-executor-service's
// (pkg/k8sutils/job.go), so that what selects by them keeps working.
const (
	ManagedByLabel   = "app.kubernetes.io/managed-by"
	ContextLabel     = "keptn.sh/context"
	EventIDLabel     = "keptn.sh/event-id"
	CommitIDLabel    = "keptn.sh/commitid"
	ActionLabel      = "keptn.sh/jes-action"
	TaskLabel        = "keptn.sh/jes-task"
	ConfigHashLabel  = "keptn.sh/jes-job-confighash"
	ActionIndexLabel = "keptn.sh/jes-action-index"
	TaskIndexLabel   = "keptn.sh/jes-task-index"
)

// ManagedBy is the value of ManagedByLabel on every Job of ours.
const ManagedBy = "job-executor"

// Selector selects every Job of ours.
const Selector = ManagedByLabel + "=" + ManagedBy

// Annotations of a Job.
const (
	// TaskAnnotation holds the Keptn task as JSON: all that is needed to answer it.
	TaskAnnotation = "job-executor.github.io/task"
	// ActionNameAnnotation and TaskNameAnnotation hold the names as they are in
	// job/config.yaml; as labels they are cut and cleaned.
	ActionNameAnnotation = "job-executor.github.io/action-name"
	TaskNameAnnotation   = "job-executor.github.io/task-name"
	// TraceparentAnnotation carries the trace from the executor to jobsource (W3C
	// Trace Context).
	TraceparentAnnotation = "job-executor.github.io/traceparent"
	// DeliveredAnnotation holds when the Job's completion was delivered (RFC 3339).
	DeliveredAnnotation = "job-executor.github.io/delivered"
	// TTLAnnotation holds the seconds that the Job is kept once its run has been
	// reported.
	TTLAnnotation = "job-executor.github.io/ttl-seconds-after-finished"
	// SilentAnnotation is "true" on a Job of an action that reports nothing.
	SilentAnnotation = "job-executor.github.io/silent"
)

// The containers of a Job's pod.
const (
	TaskContainer    = "task"
	FetcherContainer = "fetch-files"
)

// eventID matches what can stand in a name and a label as it is, as Keptn's
// UUIDs can.
var eventID = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// ID is the run's id for a triggered event: its id, or a UUID made from an id
// that can't be a part of a name.
func ID(triggeredID string) string {
	if eventID.MatchString(triggeredID) {
		return triggeredID
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(triggeredID)).String()
}

// Name is the name of a run's Job: the same whenever the same event is delivered.
func Name(runID string, actionIndex, taskIndex int) string {
	return fmt.Sprintf("job-%s-%03d-%03d", runID, actionIndex, taskIndex)
}

var notInLabel = regexp.MustCompile(`[^-a-zA-Z0-9_.]+`)

// LabelValue makes any text a label's value, as the job-executor-service does.
func LabelValue(text string) string {
	text = notInLabel.ReplaceAllString(text, "_")
	const longest = 63
	if len(text) > longest {
		text = text[:longest]
	}
	return strings.Trim(text, "-_.")
}

// Sort puts the Jobs of a run in the order in which they run.
func Sort(jobs []batchv1.Job) {
	slices.SortFunc(jobs, func(one, other batchv1.Job) int {
		return cmp.Or(
			cmp.Compare(index(one, ActionIndexLabel), index(other, ActionIndexLabel)),
			cmp.Compare(index(one, TaskIndexLabel), index(other, TaskIndexLabel)),
		)
	})
}

func index(job batchv1.Job, label string) int {
	value, _ := strconv.Atoi(job.Labels[label])
	return value
}

// Phase is how far a Job is.
type Phase string

// The phases of a Job.
const (
	Waiting   Phase = "waiting" // suspended: a Job before it has not succeeded yet
	Running   Phase = "running"
	Succeeded Phase = "succeeded"
	Failed    Phase = "failed"
)

// PhaseOf reads a Job's phase from its conditions.
func PhaseOf(job *batchv1.Job) Phase {
	switch condition := finishedCondition(job); {
	case condition == nil && job.Spec.Suspend != nil && *job.Spec.Suspend:
		return Waiting
	case condition == nil:
		return Running
	case condition.Type == batchv1.JobComplete:
		return Succeeded
	default:
		return Failed
	}
}

// FinishedAt is when a Job finished; zero if it has not.
func FinishedAt(job *batchv1.Job) time.Time {
	if condition := finishedCondition(job); condition != nil {
		return condition.LastTransitionTime.Time
	}
	return time.Time{}
}

// FailureOf is the reason and message of a failed Job's condition.
func FailureOf(job *batchv1.Job) (reason, message string) {
	if condition := finishedCondition(job); condition != nil && condition.Type == batchv1.JobFailed {
		return condition.Reason, condition.Message
	}
	return "", ""
}

func finishedCondition(job *batchv1.Job) *batchv1.JobCondition {
	for index := range job.Status.Conditions {
		condition := &job.Status.Conditions[index]
		if (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed) && condition.Status == corev1.ConditionTrue {
			return condition
		}
	}
	return nil
}

// IsDelivered says whether the Job's completion was delivered.
func IsDelivered(job *batchv1.Job) bool {
	return job.Annotations[DeliveredAnnotation] != ""
}

// Step is what a run needs next.
type Step struct {
	// Resume is the Job to be started now.
	Resume *batchv1.Job
	// Ended says that the run is over.
	Ended bool
	// Failed is the Job that ended it, nil if all succeeded.
	Failed *batchv1.Job
	// Unneeded are the Jobs that will not run any more.
	Unneeded []batchv1.Job
}

// Next decides what a run needs from all its Jobs, in their order. The first Job
// that failed ends it.
func Next(jobs []batchv1.Job) Step {
	for index := range jobs {
		switch PhaseOf(&jobs[index]) {
		case Succeeded:
		case Waiting:
			return Step{Resume: &jobs[index]}
		case Running:
			return Step{}
		case Failed:
			return Step{Ended: true, Failed: &jobs[index], Unneeded: jobs[index+1:]}
		}
	}
	return Step{Ended: len(jobs) > 0}
}
