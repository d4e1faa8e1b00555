package timeline

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// Evidence is a Job with everything that the timeline needs.
type Evidence struct {
	// Task is that of its run.
	Task keptn.Task
	Job  *batchv1.Job
	// Pods are its pods, the oldest first, and Events its Kubernetes events.
	Pods   []corev1.Pod
	Events []corev1.Event
	// Result is the result of the Job, and Failure the user's message about a failure. A cancelled Job has none.
	Result  keptn.RunResult
	Failure string
	// Ended returns how the task's container in a pod failed; empty on success.
	Ended func(pod *corev1.Pod) string
}

const (
	// maxAttempts bounds the attempts of a Job with phases of their own. Those before them become one back-off.
	maxAttempts = 5
	// maxEvents bounds the events of a phase, and maxMessageBytes the message of one.
	maxEvents       = 10
	maxMessageBytes = 300
)

// Of derives the report of a Job from its objects. A Job that has not ended is reported until now. Kubernetes' times are whole
// seconds, so causes come first: no phase begins before the one before it ends, and the Job begins after the
// executor began to create it. Jobs of a run begin in the order of its plan.
func Of(of Evidence, now time.Time) protocol.Job {
	job := of.Job
	ended := run.EndedAt(job)
	if ended.IsZero() {
		ended = now
	}
	plan, began := run.PlanOf(job), job.CreationTimestamp.Time
	if created := createdAt(job, plan); created.After(began) {
		began = created
	}
	c := &clock{at: of.Task.TriggeredAt, end: ended}
	l := &line{Evidence: of, clock: c}
	l.Job = protocol.Job{
		Namespace: job.Namespace, Name: job.Name, UID: string(job.UID), Result: of.Result, Failure: of.Failure,
		Action: job.Annotations[run.ActionNameAnnotation], Task: job.Annotations[run.TaskNameAnnotation], Began: c.reach(began),
	}
	if started := job.Status.StartTime; started != nil && (plan[0].Name != job.Name || job.Annotations[run.AdmittedAnnotation] != "") {
		l.add(protocol.Phase{Name: protocol.PhaseQueued}, started.Time)
	}
	first := max(0, len(of.Pods)-maxAttempts)
	for index := first; index < len(of.Pods); index++ {
		if index > 0 {
			l.add(protocol.Phase{Name: protocol.PhaseBackOff}, of.Pods[index].CreationTimestamp.Time)
		}
		l.attempt(index)
	}
	if len(of.Pods) == 0 {
		l.add(protocol.Phase{Name: protocol.PhasePending, Failure: of.Failure, Events: l.events(c.at, ended)}, ended)
	}
	if name := l.rest(); name != "" {
		l.add(protocol.Phase{Name: name}, ended)
	}
	l.Job.Ended = c.reach(ended)
	return l.Job
}

// rest returns the name of the phase after the last attempt, empty if no attempt has run or the last one has not ended. If
// the Job has not ended, either, another attempt may follow a failed one.
func (l *line) rest() string {
	if !l.hasRun {
		return ""
	}
	if !run.EndedAt(l.Evidence.Job).IsZero() {
		return protocol.PhaseFinalizing
	}
	retries := l.Evidence.Job.Spec.BackoffLimit
	switch phase := l.Pods[len(l.Pods)-1].Status.Phase; {
	case phase == corev1.PodFailed && retries != nil && len(l.Pods) <= int(*retries):
		return protocol.PhaseBackOff
	case phase == corev1.PodFailed || phase == corev1.PodSucceeded:
		return protocol.PhaseFinalizing
	default:
		return ""
	}
}

// createdAt returns when the executor began to create the run, plus a microsecond for each Job before this one.
func createdAt(job *batchv1.Job, plan []run.Planned) time.Time {
	created, err := time.Parse(time.RFC3339Nano, job.Annotations[run.CreatedAnnotation])
	if err != nil {
		return time.Time{} // a Job of an earlier version
	}
	number := slices.IndexFunc(plan, func(planned run.Planned) bool { return planned.Name == job.Name })
	return created.Add(time.Duration(number) * time.Microsecond)
}

// clock only goes forwards.
type clock struct{ at, end time.Time }

// reach moves the clock to a time, but not past the end, and returns the clock's time.
func (c *clock) reach(at time.Time) time.Time {
	if at.After(c.end) {
		at = c.end
	}
	c.pass(at)
	return c.at
}

// pass moves the clock to a time, even after the end.
func (c *clock) pass(at time.Time) {
	if at.After(c.at) {
		c.at = at
	}
}

// line is a timeline under construction.
type line struct {
	Evidence

	Job   protocol.Job
	clock *clock
	// hasRun is true once a container has run.
	hasRun bool
}

// add adds a phase from the end of the one before it until a time. Phases of the same second begin a microsecond
// apart, so that viewers show them in their order.
func (l *line) add(phase protocol.Phase, until time.Time) {
	if count := len(l.Job.Phases); count > 0 {
		l.clock.pass(l.Job.Phases[count-1].Began.Add(time.Microsecond))
	}
	phase.Began = l.clock.at
	phase.Ended = l.clock.reach(until)
	l.Job.Phases = append(l.Job.Phases, phase)
}

// attempt adds the phases of a pod.
func (l *line) attempt(index int) {
	pod := &l.Pods[index]
	isLast := index == len(l.Pods)-1
	fetch, task := timesOf(pod.Status.InitContainerStatuses), timesOf(pod.Status.ContainerStatuses)
	failure := ""
	switch {
	case isLast:
		failure = l.Failure
	case l.Ended != nil:
		failure = l.Ended(pod)
	}
	phase := protocol.Phase{Attempt: index + 1, Pod: pod.Name, Node: pod.Spec.NodeName}
	// wait adds the wait for containers, which fails if none of them began.
	wait := func(name string, containers ...times) {
		phase := phase
		phase.Name = name
		until := l.clock.end
		if !isLast {
			until = l.Pods[index+1].CreationTimestamp.Time
		}
		began := slices.IndexFunc(containers, func(t times) bool { return !t.began.IsZero() })
		if began >= 0 {
			until = containers[began].began
		} else {
			phase.Failure = failure
		}
		phase.Events = l.events(l.clock.at, until)
		l.add(phase, until)
	}
	wait(protocol.PhasePending, fetch, task)
	if !fetch.began.IsZero() {
		l.containers(phase, protocol.PhaseFetch, fetch, failure)
		if fetch.last == nil || fetch.last.ExitCode != 0 {
			return
		}
		wait(protocol.PhaseStarting, task)
	}
	if !task.began.IsZero() {
		l.containers(phase, protocol.PhaseRun, task, failure)
	}
}

// containers adds the phase of containers that began.
func (l *line) containers(phase protocol.Phase, name string, of times, failure string) {
	phase.Name = name
	hasFailed := name == protocol.PhaseRun // its report may fail the task, too
	if of.last != nil {
		phase.ExitCode = &of.last.ExitCode
		hasFailed = hasFailed || of.last.ExitCode != 0
	}
	if hasFailed {
		phase.Failure = failure
	}
	l.hasRun = true
	l.add(phase, of.ended)
}

// times are when the first of some containers began, and the last ended.
type times struct {
	began, ended time.Time
	// last is how the last container ended, nil if it has not.
	last *corev1.ContainerStateTerminated
}

func timesOf(statuses []corev1.ContainerStatus) times {
	var t times
	for index := range statuses {
		state := &statuses[index].State
		began := run.StartedAt(*state)
		if began.IsZero() {
			continue
		}
		ended := never() // its run was cancelled
		if state.Terminated != nil {
			ended = state.Terminated.FinishedAt.Time
		}
		if t.began.IsZero() || began.Before(t.began) {
			t.began = began
		}
		if !ended.Before(t.ended) {
			t.ended, t.last = ended, state.Terminated
		}
	}
	return t
}

// never is later than any other time.
func never() time.Time {
	const late = 1 << 40
	return time.Unix(late, 0)
}

// events returns the first of Kubernetes' events in a span of time.
func (l *line) events(from, to time.Time) []protocol.PodEvent {
	var found []protocol.PodEvent
	for _, seen := range l.Events {
		at := seen.LastTimestamp.Time
		if at.IsZero() {
			at = seen.EventTime.Time // the scheduler uses events.k8s.io
		}
		if at.Before(from) || at.After(to) || len(found) == maxEvents {
			continue // such as that the container has started, or of another attempt
		}
		found = append(found, protocol.PodEvent{At: at, Reason: seen.Reason, Message: excerpt.Shorten(seen.Message, "the pod's events", maxMessageBytes)})
	}
	return found
}
