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

// Further labels of a Job, by which a person finds it.
const (
	ProjectLabel = "keptn.sh/project"
	StageLabel   = "keptn.sh/stage"
	ServiceLabel = "keptn.sh/service"
)

// ManagedBy is the value of ManagedByLabel on every Job of ours.
const ManagedBy = "job-executor"

// Selector selects every Job of ours.
const Selector = ManagedByLabel + "=" + ManagedBy

// InstanceLabel holds the installation's name: two that share a namespace leave each
// other's Jobs alone.
const InstanceLabel = "app.kubernetes.io/instance"

// SelectorOf selects every Job of one installation.
func SelectorOf(installation string) string {
	return Selector + "," + InstanceLabel + "=" + installation
}

// Annotations of a Job. No task may set one below job-executor.github.io (jobconfig).
const (
	// TaskAnnotation holds the Keptn task as JSON: all that is needed to answer it.
	TaskAnnotation = "job-executor.github.io/task"
	// ActionNameAnnotation and TaskNameAnnotation hold the names as they are in
	// job/config.yaml; as labels they are cut and cleaned.
	ActionNameAnnotation = "job-executor.github.io/action-name"
	TaskNameAnnotation   = "job-executor.github.io/task-name"
	// PlanAnnotation holds as JSON which Jobs the run has, in their order: so one that
	// is missing is known to be.
	PlanAnnotation = "job-executor.github.io/plan"
	// ReportedAnnotation holds when Keptn was known to have the run's result (RFC 3339).
	ReportedAnnotation = "job-executor.github.io/reported"
	// FailureAnnotation says why a Job was given up that could not start; it is suspended
	// then, and counts as failed.
	FailureAnnotation = "job-executor.github.io/failure"
	// FailedAtAnnotation holds when the Job was given up (RFC 3339): Kubernetes notes no end.
	FailedAtAnnotation = "job-executor.github.io/failed-at"
	// UncheckedAnnotation holds an Unchecked as JSON.
	UncheckedAnnotation = "job-executor.github.io/unchecked"
	// SucceededAnnotation says why a Job counts as succeeded that Kubernetes failed: its task
	// succeeded, and a sidecar of its pod did not.
	SucceededAnnotation = "job-executor.github.io/succeeded"
	// DeadlineAnnotation says what set the limit of the task's time: its
	// maxPollDuration, the installation's TASK_DEADLINE_SECONDS, or the default.
	DeadlineAnnotation = "job-executor.github.io/deadline-source"
	// TTLAnnotation holds the seconds that the Job is kept once its run has been
	// reported.
	TTLAnnotation = "job-executor.github.io/ttl-seconds-after-finished"
	// QueuedAnnotation is on the first Job of a run that waits until its project has fewer
	// active runs, and holds since when (RFC 3339, with nanoseconds).
	QueuedAnnotation = "job-executor.github.io/queued"
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

// IsPodOf says whether a pod has the name of one of a run's Jobs' pods: that of the Job, and what
// Kubernetes adds.
func IsPodOf(pod, runID string) bool {
	numbers, ok := strings.CutPrefix(pod, "job-"+runID+"-")
	return ok && podNumbers.MatchString(numbers)
}

var podNumbers = regexp.MustCompile(`^\d{3,}-\d{3,}-[a-z0-9]+$`)

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

// FinishedAt is when a Job finished; zero if it has not.
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

// FailureOf is the reason and message of a failed Job's condition.
func FailureOf(job *batchv1.Job) (reason, message string) {
	if condition := finishedCondition(job); condition != nil && condition.Type != batchv1.JobComplete {
		return condition.Reason, condition.Message
	}
	return "", ""
}

// finishedCondition is that of a Job that has ended. A FailureTarget without Failed
// is one, too: Kubernetes has given the Job up, and adds Failed only once its pods are
// gone, which those on a lost node are not for as long as it is lost.
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

// IsGivenUp says whether a Job was given up since it could not start.
func IsGivenUp(job *batchv1.Job) bool { return job.Annotations[FailureAnnotation] != "" }

// IsQueued says whether a Job, which is the first of its run, waits until its project has fewer
// active runs.
func IsQueued(job *batchv1.Job) bool {
	return job.Annotations[QueuedAnnotation] != "" && PhaseOf(job) == Waiting
}

// QueuedAt is since when it waits; zero if nothing says so.
func QueuedAt(job *batchv1.Job) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, job.Annotations[QueuedAnnotation])
	return at
}

// Queue has a Job wait until its project has fewer active runs. It has not been created yet.
func Queue(job *batchv1.Job, at time.Time) {
	job.Spec.Suspend = new(true)
	job.Annotations[QueuedAnnotation] = at.UTC().Format(time.RFC3339Nano)
}

// IsReported says whether Keptn is known to have the result of the Job's run.
func IsReported(job *batchv1.Job) bool { return job.Annotations[ReportedAnnotation] != "" }

// IsSilent says whether the Job is one of a run that reports nothing.
func IsSilent(job *batchv1.Job) bool { return isSilentAction(job) && !isMixed(PlanOf(job)) }

// isSilentAction says whether the Job is one of an action that reports nothing.
func isSilentAction(job *batchv1.Job) bool { return job.Annotations[SilentAnnotation] == "true" }

// isMixed says whether some actions of a run report, and some do not.
func isMixed(plan []Planned) bool {
	return slices.ContainsFunc(plan, func(planned Planned) bool { return planned.Reports })
}

// Step is what a run needs next.
type Step struct {
	// Resume are the Jobs to be started now.
	Resume []*batchv1.Job
	// Ended says that the run is over.
	Ended bool
	// Ran are the Jobs that have ended, in their order.
	Ran []Ran
	// Missing are the Jobs that ended their action since they do not exist any more.
	Missing []Planned
	// Unneeded are the Jobs that will not run any more.
	Unneeded []batchv1.Job

	mixed, isUnderWay bool
}

// Ran is a Job that has ended.
type Ran struct {
	Planned
	Job *batchv1.Job
}

// IsSilent says whether a Job of the plan is one of an action that does not report,
// beside others that do.
func (s Step) IsSilent(planned Planned) bool { return s.mixed && !planned.Reports }

// IsMissing says whether one of the missing Jobs is in one of some namespaces.
func (s Step) IsMissing(namespaces []string) bool {
	return slices.ContainsFunc(s.Missing, func(planned Planned) bool { return slices.Contains(namespaces, planned.Namespace) })
}

// Next decides what a run needs from what there is of its Jobs. The first Job of an
// action that failed, or that is missing, ends the action, and the next action's turn
// comes; so the run has succeeded only if all of the plan's Jobs have. The Jobs of a
// parallel action all run, whatever becomes of each. As long as no Job has begun and the
// first is missing, the run may still be being created: the first Job is created last. Nor does a
// run need anything whose first Job is queued.
// Begun says that it is known to have been there.
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
			if step.take(planned, byName[planned.Name], planned.Name == plan[0].Name) {
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

// turns are the Jobs of each action, whose turns come one after the other.
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

// take takes a Job into account whose turn it is; nil is one that is missing. It returns
// whether those behind it in its action have to wait for it, or will not run. The first
// of all is not to be resumed: it was created running, and others have suspended it.
func (s *Step) take(planned Planned, job *batchv1.Job, isFirst bool) (isLast bool) {
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
