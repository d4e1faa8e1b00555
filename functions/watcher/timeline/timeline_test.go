package timeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func at(second int) metav1.Time { return metav1.NewTime(noon.Add(time.Duration(second) * time.Second)) }

// job returns a Job that ran from second 1 to second 9.
func job(plan string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "jobs", Name: "job-1-000-001", UID: "uid", CreationTimestamp: at(0),
			Annotations: map[string]string{run.TaskNameAnnotation: "greet", run.ActionNameAnnotation: "Greet", run.PlanAnnotation: plan},
		},
		Status: batchv1.JobStatus{
			StartTime:  new(at(1)),
			Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: at(9)}},
		},
	}
}

// unfinished removes the end of a Job.
func unfinished(job *batchv1.Job) *batchv1.Job {
	job.Status.Conditions = nil
	return job
}

// first is the plan of a run with one Job.
const first = `[{"namespace":"jobs","name":"job-1-000-001"}]`

func annotated(job *batchv1.Job, name, value string) *batchv1.Job {
	job.Annotations[name] = value
	return job
}

// ended returns the status of a container that ran.
func ended(from, to int, exitCode int32) []corev1.ContainerStatus {
	state := &corev1.ContainerStateTerminated{StartedAt: at(from), FinishedAt: at(to), ExitCode: exitCode}
	return []corev1.ContainerStatus{{Name: run.TaskContainer, State: corev1.ContainerState{Terminated: state}}}
}

// running returns the status of a container that has not ended.
func running(from int) []corev1.ContainerStatus {
	return []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(from)}}}}
}

// pod returns a pod that was created at a second.
func pod(created int, init, task []corev1.ContainerStatus) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", created), CreationTimestamp: at(created)},
		Spec:       corev1.PodSpec{NodeName: "node"}, Status: corev1.PodStatus{InitContainerStatuses: init, ContainerStatuses: task},
	}
}

// draw returns a line for each phase: its attempt, name, seconds, exit code, failure and events.
func draw(job protocol.Job) []string {
	seconds := func(at time.Time) string { return fmt.Sprint(at.Sub(noon).Seconds()) }
	lines := []string{"Job " + seconds(job.Began) + "-" + seconds(job.Ended.Truncate(time.Millisecond))}
	seconds = func(at time.Time) string { return fmt.Sprint(at.Truncate(time.Millisecond).Sub(noon).Seconds()) }
	for _, phase := range job.Phases {
		line := fmt.Sprintf("%d %s %s-%s", phase.Attempt, phase.Name, seconds(phase.Began), seconds(phase.Ended))
		if phase.Pod != "" {
			line += " " + phase.Pod + "@" + phase.Node
		}
		if phase.ExitCode != nil {
			line += fmt.Sprintf(" exit %d", *phase.ExitCode)
		}
		if phase.Failure != "" {
			line += " ! " + phase.Failure
		}
		for _, seen := range phase.Events {
			line += " (" + seen.Reason + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestPhasesOfAJob(t *testing.T) {
	// notStarted is how the kubelet reports a StartError.
	notStarted := ended(0, 5, 128)
	notStarted[0].State.Terminated.StartedAt = metav1.Unix(0, 0)
	attempts := func(count int) (pods []corev1.Pod) {
		for number := range count {
			pods = append(pods, pod(number, nil, ended(number, number, 3)))
		}
		return pods
	}
	tests := []struct {
		name        string
		job         *batchv1.Job
		pods        []corev1.Pod
		triggeredAt time.Time
		result      keptn.RunResult
		failure     string
		want        []string
	}{
		{
			name: "with files", job: job(first), pods: []corev1.Pod{pod(1, ended(2, 3, 0), ended(4, 8, 0))},
			want: []string{
				"Job 0-9", "1 pending 0-2 pod-1@node (FailedScheduling) (Pulling)", "1 fetch files 2-3 pod-1@node exit 0",
				"1 starting 3-4 pod-1@node", "1 run 4-8 pod-1@node exit 0", "0 finalizing 8-9",
			},
		},
		{
			name: "after an earlier Job", job: job(`[{"name":"another"},{"name":"job-1-000-001"}]`), pods: []corev1.Pod{pod(1, nil, ended(3, 8, 0))},
			want: []string{"Job 0-9", "0 queued 0-1", "1 pending 1-3 pod-1@node (FailedScheduling) (Pulling)", "1 run 3-8 pod-1@node exit 0", "0 finalizing 8-9"},
		},
		{
			name: "after other runs of its project", job: annotated(job(first), run.AdmittedAnnotation, noon.Format(time.RFC3339Nano)),
			pods: []corev1.Pod{pod(1, nil, ended(3, 8, 0))},
			want: []string{"Job 0-9", "0 queued 0-1", "1 pending 1-3 pod-1@node (FailedScheduling) (Pulling)", "1 run 3-8 pod-1@node exit 0", "0 finalizing 8-9"},
		},
		{
			name: "a failing container", job: job(first), pods: []corev1.Pod{pod(1, ended(2, 3, 0), ended(3, 8, 3))}, failure: "it broke",
			want: []string{
				"Job 0-9", "1 pending 0-2 pod-1@node (FailedScheduling) (Pulling)", "1 fetch files 2-3 pod-1@node exit 0",
				"1 starting 3-3 pod-1@node", "1 run 3-8 pod-1@node exit 3 ! it broke", "0 finalizing 8-9",
			},
		},
		{
			name: "a task that reports its failure", job: job(first), pods: []corev1.Pod{pod(1, nil, ended(3, 8, 0))}, failure: "it is too slow",
			want: []string{
				"Job 0-9", "1 pending 0-3 pod-1@node (FailedScheduling) (Pulling)", "1 run 3-8 pod-1@node exit 0 ! it is too slow", "0 finalizing 8-9",
			},
		},
		{
			name: "a failing fetcher", job: job(first), pods: []corev1.Pod{pod(1, ended(2, 3, 1), nil)}, failure: "no such file",
			want: []string{
				"Job 0-9", "1 pending 0-2 pod-1@node (FailedScheduling) (Pulling)", "1 fetch files 2-3 pod-1@node exit 1 ! no such file", "0 finalizing 3-9",
			},
		},
		{
			name: "a container that could not start, though it has an end", job: job(first), pods: []corev1.Pod{pod(1, nil, notStarted)}, failure: "no such command",
			want: []string{"Job 0-9", "1 pending 0-9 pod-1@node ! no such command (FailedScheduling) (Pulling)"},
		},
		{
			name: "a container that could not start after its files were fetched", job: job(first),
			pods: []corev1.Pod{pod(1, ended(2, 3, 0), notStarted)}, failure: "no such command",
			want: []string{
				"Job 0-9", "1 pending 0-2 pod-1@node (FailedScheduling) (Pulling)", "1 fetch files 2-3 pod-1@node exit 0",
				"1 starting 3-9 pod-1@node ! no such command", "0 finalizing 9-9",
			},
		},
		{
			name: "a container that runs when its run is cancelled", job: unfinished(job(first)), pods: []corev1.Pod{pod(1, nil, running(4))},
			result: keptn.RunCancellation,
			want:   []string{"Job 0-60", "1 pending 0-4 pod-1@node (FailedScheduling) (Pulling)", "1 run 4-60 pod-1@node"},
		},
		{
			name: "a container killed by a cancellation has not failed", job: job(first), result: keptn.RunCancellation,
			pods: []corev1.Pod{pod(1, nil, ended(3, 8, 137))},
			want: []string{"Job 0-9", "1 pending 0-3 pod-1@node (FailedScheduling) (Pulling)", "1 run 3-8 pod-1@node exit 137", "0 finalizing 8-9"},
		},
		{
			name: "a pod that never started", job: job(first), pods: []corev1.Pod{pod(1, nil, nil)}, failure: "no image",
			want: []string{"Job 0-9", "1 pending 0-9 pod-1@node ! no image (FailedScheduling) (Pulling)"},
		},
		{
			name: "no pod", job: job(first), failure: "refused",
			want: []string{"Job 0-9", "0 pending 0-9 ! refused (FailedScheduling) (Pulling)"},
		},
		{
			name: "three attempts", job: job(first), failure: "it broke for good",
			pods: []corev1.Pod{pod(1, nil, ended(1, 2, 3)), pod(4, nil, ended(5, 5, 3)), pod(7, nil, ended(7, 8, 4))},
			want: []string{
				"Job 0-9", "1 pending 0-1 pod-1@node (FailedScheduling) (Pulling)", "1 run 1-2 pod-1@node exit 3 ! pod-1 broke", "0 back-off 2-4",
				"2 pending 4-5 pod-4@node", "2 run 5-5 pod-4@node exit 3 ! pod-4 broke", "0 back-off 5-7",
				"3 pending 7-7 pod-7@node", "3 run 7-8 pod-7@node exit 4 ! it broke for good", "0 finalizing 8-9",
			},
		},
		{
			name: "an attempt that could not start before one that did", job: job(first),
			pods: []corev1.Pod{pod(1, nil, notStarted), pod(6, nil, ended(6, 8, 0))},
			want: []string{
				"Job 0-9", "1 pending 0-6 pod-1@node ! pod-1 broke (FailedScheduling) (Pulling)", "0 back-off 6-6",
				"2 pending 6-6 pod-6@node", "2 run 6-8 pod-6@node exit 0", "0 finalizing 8-9",
			},
		},
		{
			name: "the last of many attempts", job: job(first), pods: attempts(8), failure: "it broke",
			want: []string{
				"Job 0-9", "0 back-off 0-3", "4 pending 3-3 pod-3@node", "4 run 3-3 pod-3@node exit 3 ! pod-3 broke", "0 back-off 3-4",
				"5 pending 4-4 pod-4@node", "5 run 4-4 pod-4@node exit 3 ! pod-4 broke", "0 back-off 4-5",
				"6 pending 5-5 pod-5@node", "6 run 5-5 pod-5@node exit 3 ! pod-5 broke", "0 back-off 5-6",
				"7 pending 6-6 pod-6@node", "7 run 6-6 pod-6@node exit 3 ! pod-6 broke", "0 back-off 6-7",
				"8 pending 7-7 pod-7@node", "8 run 7-7 pod-7@node exit 3 ! it broke", "0 finalizing 7-9",
			},
		},
		{
			name: "nothing begins before the trigger, though Kubernetes' seconds do", job: job(first), pods: []corev1.Pod{pod(1, nil, ended(2, 8, 0))},
			triggeredAt: noon.Add(2500 * time.Millisecond),
			want:        []string{"Job 2.5-9", "1 pending 2.5-2.5 pod-1@node", "1 run 2.5-8 pod-1@node exit 0", "0 finalizing 8-9"},
		},
		{
			name: "the Job begins after its creation began", job: annotated(job(first), run.CreatedAnnotation, noon.Add(600*time.Millisecond).Format(time.RFC3339Nano)),
			pods: []corev1.Pod{pod(1, nil, ended(2, 8, 0))},
			want: []string{"Job 0.6-9", "1 pending 0.6-2 pod-1@node (FailedScheduling) (Pulling)", "1 run 2-8 pod-1@node exit 0", "0 finalizing 8-9"},
		},
		{
			name: "Jobs created at once begin in the order of the plan",
			job: annotated(job(`[{"name":"another","action":1,"parallel":true},{"name":"job-1-000-001","action":1,"parallel":true}]`),
				run.CreatedAnnotation, noon.Format(time.RFC3339Nano)),
			pods: []corev1.Pod{pod(1, nil, ended(2, 8, 0))},
			want: []string{
				"Job 1e-06-9", "0 queued 0-1", "1 pending 1-2 pod-1@node (FailedScheduling) (Pulling)", "1 run 2-8 pod-1@node exit 0", "0 finalizing 8-9",
			},
		},
		{
			name: "nothing ends after the Job", job: job(first), pods: []corev1.Pod{pod(1, nil, ended(3, 8, 0))}, triggeredAt: noon.Add(9500 * time.Millisecond),
			want: []string{"Job 9.5-9.5", "1 pending 9.5-9.5 pod-1@node", "1 run 9.5-9.5 pod-1@node exit 0", "0 finalizing 9.5-9.5"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// The scheduler uses events.k8s.io, whose events have no lastTimestamp.
			events := []corev1.Event{
				{Reason: "FailedScheduling", EventTime: metav1.NewMicroTime(at(1).Time)},
				{Reason: "Pulling", LastTimestamp: at(1)}, {Reason: "Later", LastTimestamp: at(30)},
			}
			broke := func(pod *corev1.Pod) string { return pod.Name + " broke" }
			got := Of(Evidence{
				Task: keptn.Task{TriggeredAt: test.triggeredAt}, Job: test.job, Pods: test.pods, Events: events,
				Result: test.result, Failure: test.failure, Ended: broke,
			}, noon.Add(time.Minute))
			if difference := cmp.Diff(test.want, draw(got)); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			for index := 1; index < len(got.Phases); index++ {
				if before, after := got.Phases[index-1], got.Phases[index]; !after.Began.After(before.Began) || after.Began.Before(before.Ended) {
					t.Errorf("%s begins at %s, and %s lasts from %s to %s", after.Name, after.Began, before.Name, before.Began, before.Ended)
				}
			}
			if last := got.Phases[len(got.Phases)-1]; got.Ended.Before(last.Ended) {
				t.Errorf("%s ends at %s, after the Job at %s", last.Name, last.Ended, got.Ended)
			}
		})
	}
}

func TestLastPhaseOfAJobThatHasNotEnded(t *testing.T) {
	const failed, finalizing = corev1.PodFailed, protocol.PhaseFinalizing
	status := map[corev1.PodPhase][]corev1.ContainerStatus{
		corev1.PodRunning: running(2), corev1.PodSucceeded: ended(2, 3, 0), corev1.PodFailed: ended(2, 3, 1),
	}
	tests := []struct {
		name    string
		pods    []corev1.PodPhase
		retries int32
		want    string
	}{
		{name: "its container runs", pods: []corev1.PodPhase{corev1.PodRunning}, want: protocol.PhaseRun},
		{name: "its container has passed", pods: []corev1.PodPhase{corev1.PodSucceeded}, retries: 2, want: finalizing},
		{name: "it has failed, without retries", pods: []corev1.PodPhase{failed}, want: finalizing},
		{name: "it has failed, and is tried again", pods: []corev1.PodPhase{failed}, retries: 1, want: protocol.PhaseBackOff},
		{name: "its last attempt has failed", pods: []corev1.PodPhase{failed, failed}, retries: 1, want: finalizing},
		{name: "it has not started", pods: []corev1.PodPhase{corev1.PodPending}, retries: 1, want: protocol.PhasePending},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			active := unfinished(job(first))
			active.Spec.BackoffLimit = &test.retries
			var pods []corev1.Pod
			for index, phase := range test.pods {
				attempt := pod(index+1, nil, status[phase])
				attempt.Status.Phase = phase
				pods = append(pods, attempt)
			}
			phases := Of(Evidence{Job: active, Pods: pods}, noon.Add(time.Minute)).Phases
			if last := phases[len(phases)-1]; last.Name != test.want {
				t.Errorf("it is %s, want %s", last.Name, test.want)
			}
		})
	}
}

func TestTimelineIsBounded(t *testing.T) {
	var events []corev1.Event
	for range 50 {
		events = append(events, corev1.Event{Reason: "FailedMount", LastTimestamp: at(1), Message: strings.Repeat("x", 10000)})
	}
	got := Of(Evidence{Job: job(""), Pods: []corev1.Pod{pod(1, nil, nil)}, Events: events}, noon)
	pending := got.Phases[0]
	if len(pending.Events) != maxEvents || len(pending.Events[0].Message) > maxMessageBytes {
		t.Errorf("%d events of %d bytes", len(pending.Events), len(pending.Events[0].Message))
	}
}
