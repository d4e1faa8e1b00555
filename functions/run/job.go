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

// Further labels of a Job, for people.
const (
	ProjectLabel = "keptn.sh/project"
	StageLabel   = "keptn.sh/stage"
	ServiceLabel = "keptn.sh/service"
)

// ManagedBy is the value of ManagedByLabel on every Job of ours.
const ManagedBy = "job-executor"

// Selector selects every Job of ours.
const Selector = ManagedByLabel + "=" + ManagedBy

// InstanceLabel is the name of the installation. Installations that share a namespace do not touch each other's
// Jobs.
const InstanceLabel = "app.kubernetes.io/instance"

// SelectorOf selects every Job of one installation.
func SelectorOf(installation string) string {
	return Selector + "," + InstanceLabel + "=" + installation
}

// Version is the version of a Job's labels and annotations. A release increases it if earlier ones would misunderstand its Jobs.
const Version = "1"

// Annotations of a Job. Tasks cannot set annotations below job-executor.github.io (jobconfig).
const (
	// VersionAnnotation is the Version. Jobs of earlier releases lack it.
	VersionAnnotation = "job-executor.github.io/version"
	// TaskAnnotation is the Keptn task as JSON: everything that an answer needs.
	TaskAnnotation = "job-executor.github.io/task"
	// ActionNameAnnotation and TaskNameAnnotation are the names in job/config.yaml. Labels have them truncated
	// and cleaned.
	ActionNameAnnotation = "job-executor.github.io/action-name"
	TaskNameAnnotation   = "job-executor.github.io/task-name"
	// PlanAnnotation lists the Jobs of the run in their order as JSON, so that a missing Job is noticed.
	PlanAnnotation = "job-executor.github.io/plan"
	// ReportedAnnotation is when Keptn was known to have the run's result (RFC 3339).
	ReportedAnnotation = "job-executor.github.io/reported"
	// FailureAnnotation is why the Job was given up. Such a Job is suspended and counts as failed.
	FailureAnnotation = "job-executor.github.io/failure"
	// FailedAtAnnotation is when the Job was given up (RFC 3339). Kubernetes records no end for it.
	FailedAtAnnotation = "job-executor.github.io/failed-at"
	// UncheckedAnnotation is an Unchecked as JSON.
	UncheckedAnnotation = "job-executor.github.io/unchecked"
	// SucceededAnnotation is why a Job that Kubernetes failed counts as succeeded: its task succeeded, and only
	// a sidecar did not.
	SucceededAnnotation = "job-executor.github.io/succeeded"
	// DeadlineAnnotation is the source of the task's time limit: its maxPollDuration, the installation's
	// TASK_DEADLINE_SECONDS, or the default.
	DeadlineAnnotation = "job-executor.github.io/deadline-source"
	// TTLAnnotation is how many seconds the Job is kept after its run is reported.
	TTLAnnotation = "job-executor.github.io/ttl-seconds-after-finished"
	// QueuedAnnotation is on the first Job of a run that waits for its project to have fewer active runs. It is
	// the start of the wait (RFC 3339 with nanoseconds).
	QueuedAnnotation = "job-executor.github.io/queued"
	// AdmittedAnnotation replaces QueuedAnnotation, with the same value, once the Job may start.
	AdmittedAnnotation = "job-executor.github.io/was-queued"
	// CreatedAnnotation is when the executor began to create the Jobs of the run (RFC 3339 with nanoseconds).
	// Kubernetes' creationTimestamp is a whole second.
	CreatedAnnotation = "job-executor.github.io/created"
	// SilentAnnotation is "true" on a Job of a silent action.
	SilentAnnotation = "job-executor.github.io/silent"
)

// The containers of a Job's pod.
const (
	TaskContainer    = "task"
	FetcherContainer = "fetch-files"
)

// eventID matches ids that are valid in names and labels, such as Keptn's UUIDs.
var eventID = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// ID returns the run's id for a triggered event: the event's id, or a UUID derived from an id that is invalid
// in a name.
func ID(triggeredID string) string {
	if eventID.MatchString(triggeredID) {
		return triggeredID
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(triggeredID)).String()
}

// Name returns the name of a run's Job. It is the same for every delivery of the event.
func Name(runID string, actionIndex, taskIndex int) string {
	return fmt.Sprintf("job-%s-%03d-%03d", runID, actionIndex, taskIndex)
}

// IsPodOf reports whether a pod belongs to a Job of the run, by its name.
func IsPodOf(pod, runID string) bool {
	numbers, ok := strings.CutPrefix(pod, "job-"+runID+"-")
	return ok && podNumbers.MatchString(numbers)
}

var podNumbers = regexp.MustCompile(`^\d{3,}-\d{3,}-[a-z0-9]+$`)

var notInLabel = regexp.MustCompile(`[^-a-zA-Z0-9_.]+`)

// LabelValue turns any text into a valid label value like the job-executor-service.
func LabelValue(text string) string {
	text = notInLabel.ReplaceAllString(text, "_")
	const longest = 63
	if len(text) > longest {
		text = text[:longest]
	}
	return strings.Trim(text, "-_.")
}

// Sort sorts the Jobs of a run by their order of execution.
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

// Phase is the state of a Job.
type Phase string

// The phases of a Job.
const (
	Waiting   Phase = "waiting" // suspended until the Job before it succeeds
	Running   Phase = "running"
	Succeeded Phase = "succeeded"
	Failed    Phase = "failed"
)

// PhaseOf returns the phase of a Job from its conditions.
func PhaseOf(job *batchv1.Job) Phase {
	switch condition := finishedCondition(job); {
	case condition == nil && IsGivenUp(job):
		return Failed
	case condition == nil && job.Spec.Suspend != nil && *job.Spec.Suspend:
		return Waiting
	case condition == nil:
		return Running
	case condition.Type == batchv1.JobComplete, job.Annotations[SucceededAnnotation] != "":
		return Succeeded
	default:
		return Failed
	}
}

// FinishedAt returns when a Job finished; zero if it has not.
func FinishedAt(job *batchv1.Job) time.Time {
	if condition := finishedCondition(job); condition != nil {
		return condition.LastTransitionTime.Time
	}
	return time.Time{}
}

// EndedAt returns when a Job finished or was given up; zero if neither happened.
func EndedAt(job *batchv1.Job) time.Time {
	if at := FinishedAt(job); !at.IsZero() || !IsGivenUp(job) {
		return at
	}
	at, _ := time.Parse(time.RFC3339Nano, job.Annotations[FailedAtAnnotation]) // zero for Jobs of earlier versions
	return at
}

// FailureOf returns the reason and the message of a failed Job's condition.
func FailureOf(job *batchv1.Job) (reason, message string) {
	if condition := finishedCondition(job); condition != nil && condition.Type != batchv1.JobComplete {
		return condition.Reason, condition.Message
	}
	return "", ""
}

// finishedCondition returns the condition of a finished Job, nil if there is none. A FailureTarget counts, too:
// Kubernetes has given the Job up, but adds Failed only when its pods are gone, which may never happen on a
// lost node.
func finishedCondition(job *batchv1.Job) *batchv1.JobCondition {
	for _, wanted := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget} {
		for index := range job.Status.Conditions {
			condition := &job.Status.Conditions[index]
			if condition.Type == wanted && condition.Status == corev1.ConditionTrue {
				return condition
			}
		}
	}
	return nil
}

// IsGivenUp reports whether a Job was given up because it could not start.
func IsGivenUp(job *batchv1.Job) bool { return job.Annotations[FailureAnnotation] != "" }

// IsQueued reports whether the first Job of a run waits for its project to have fewer active runs.
func IsQueued(job *batchv1.Job) bool {
	return job.Annotations[QueuedAnnotation] != "" && PhaseOf(job) == Waiting
}

// QueuedAt returns the start of the wait; zero if unknown.
func QueuedAt(job *batchv1.Job) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, job.Annotations[QueuedAnnotation])
	return at
}

// Queue queues a Job before its creation.
func Queue(job *batchv1.Job, at time.Time) {
	job.Spec.Suspend = new(true)
	job.Annotations[QueuedAnnotation] = at.UTC().Format(time.RFC3339Nano)
}

// IsReported reports whether Keptn is known to have the result of the Job's run.
func IsReported(job *batchv1.Job) bool { return job.Annotations[ReportedAnnotation] != "" }

// IsSilent reports whether the Job's run is silent: Keptn gets no events for it.
func IsSilent(job *batchv1.Job) bool { return isSilentAction(job) && !isMixed(PlanOf(job)) }

// isSilentAction reports whether the Job's action is silent.
func isSilentAction(job *batchv1.Job) bool { return job.Annotations[SilentAnnotation] == "true" }

// isMixed reports whether a run has actions that report and silent actions.
func isMixed(plan []Planned) bool {
	return slices.ContainsFunc(plan, func(planned Planned) bool { return planned.Reports })
}

// Step is what a run needs next.
type Step struct {
	// Resume are the Jobs that must start now.
	Resume []*batchv1.Job
	// Ended is true if the run is over.
	Ended bool
	// Ran are the Jobs that have ended, in their order.
	Ran []Ran
	// Missing are the Jobs that ended their action because they do not exist any more.
	Missing []Planned
	// Unneeded are the Jobs that will not run.
	Unneeded []batchv1.Job

	mixed, isUnderWay bool
}

// Ran is an ended Job.
type Ran struct {
	Planned
	Job *batchv1.Job
}

// IsSilent reports whether a planned Job belongs to a silent action in a run with others that report.
func (s Step) IsSilent(planned Planned) bool { return s.mixed && !planned.Reports }

// IsMissing reports whether one of the missing Jobs is in one of the namespaces.
func (s Step) IsMissing(namespaces []string) bool {
	return slices.ContainsFunc(s.Missing, func(planned Planned) bool { return slices.Contains(namespaces, planned.Namespace) })
}

// Next decides what a run needs, given its existing Jobs. The first failed or missing Job of an action ends the
// action, and the next action's turn comes. So a run only succeeds if all planned Jobs do. All Jobs of a
// parallel action run, whatever their results. While no Job has begun and the first one is missing, the run may
// still be in creation: the first Job is created last. A run with a queued first Job needs nothing. Begun is
// true if the first Job is known to have existed.
func Next(jobs []batchv1.Job, begun bool) Step {
	if len(jobs) == 0 {
		return Step{}
	}
	jobs = slices.Clone(jobs)
	Sort(jobs)
	byName := map[string]*batchv1.Job{}
	for index := range jobs {
		byName[jobs[index].Name] = &jobs[index]
		begun = begun || PhaseOf(&jobs[index]) != Waiting
	}
	plan := planOf(jobs)
	if first := byName[plan[0].Name]; first == nil && !begun || first != nil && IsQueued(first) {
		return Step{}
	}
	step := Step{mixed: isMixed(plan)}
	for _, turn := range turns(plan) {
		for _, planned := range turn {
			if step.add(planned, byName[planned.Name], planned.Name == plan[0].Name) {
				break
			}
		}
		if step.isUnderWay {
			return step
		}
	}
	step.Ended = true
	step.Unneeded = slices.DeleteFunc(slices.Clone(jobs), func(job batchv1.Job) bool {
		return slices.ContainsFunc(step.Ran, func(ran Ran) bool { return ran.Name == job.Name })
	})
	return step
}

// turns groups the planned Jobs by action. Actions take turns.
func turns(plan []Planned) [][]Planned {
	var turns [][]Planned
	for index, planned := range plan {
		if index == 0 || planned.Action != plan[index-1].Action {
			turns = append(turns, nil)
		}
		turns[len(turns)-1] = append(turns[len(turns)-1], planned)
	}
	return turns
}

// add adds a Job to the step when its turn has come; nil is a missing Job. It returns true if later
// Jobs of the action must wait or will not run. The very first Job is never resumed: it was created running, so
// somebody else has suspended it.
func (s *Step) add(planned Planned, job *batchv1.Job, isFirst bool) (isLast bool) {
	if job == nil {
		s.Missing = append(s.Missing, planned)
		return !planned.Parallel
	}
	switch phase := PhaseOf(job); phase {
	case Waiting, Running:
		s.isUnderWay = true
		if phase == Waiting && !isFirst {
			s.Resume = append(s.Resume, job)
		}
		return !planned.Parallel
	default:
		s.Ran = append(s.Ran, Ran{planned, job})
		return phase == Failed && !planned.Parallel
	}
}

// IsActive reports whether a Job runs or waits.
func IsActive(job *batchv1.Job) bool {
	phase := PhaseOf(job)
	return phase == Waiting || phase == Running
}
