package jobspan

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func at(second int) metav1.Time { return metav1.NewTime(noon.Add(time.Duration(second) * time.Second)) }

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

func ended(from, to int, exitCode int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: at(from), FinishedAt: at(to), ExitCode: exitCode}},
	}
}

func pod(init, task []corev1.ContainerStatus) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}, Status: corev1.PodStatus{InitContainerStatuses: init, ContainerStatuses: task}}
}

func TestJobBecomesSpansBelowTheRuns(t *testing.T) {
	const first = `[{"namespace":"jobs","name":"job-1-000-001"}]`
	fetched, failed := []corev1.ContainerStatus{ended(2, 3, 0)}, []corev1.ContainerStatus{ended(3, 8, 3)}
	passed := []corev1.ContainerStatus{ended(3, 8, 0)}
	tests := []struct {
		name        string
		job         *batchv1.Job
		pods        []corev1.Pod
		triggeredAt time.Time
		failure     string
		want        []string
	}{
		{
			name: "each phase of a pod", job: job(first), pods: []corev1.Pod{pod(fetched, passed)},
			want: []string{"pending 1-2 FailedScheduling Pulling", "fetch files 2-3", "run 3-8", "greet 0-9 below RUN"},
		},
		{
			name: "waiting for an earlier Job", job: job(`[{"name":"another"},{"name":"job-1-000-001"}]`), pods: []corev1.Pod{pod(nil, passed)},
			want: []string{"queued 0-1", "pending 1-3 FailedScheduling Pulling", "run 3-8", "greet 0-9 below RUN"},
		},
		{
			name: "a failure is marked", job: job(first), pods: []corev1.Pod{pod(fetched, failed)}, failure: "it broke\nand more",
			want: []string{"pending 1-2 FailedScheduling Pulling", "fetch files 2-3", "run 3-8 Error: it broke", "greet 0-9 Error: it broke below RUN"},
		},
		{
			name: "a container that runs when its run is cancelled", job: job(first), pods: []corev1.Pod{pod(fetched, []corev1.ContainerStatus{
				{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(4)}}},
			})},
			want: []string{"pending 1-2 FailedScheduling Pulling", "fetch files 2-3", "run 4-9", "greet 0-9 below RUN"},
		},
		{
			name: "a container killed by a cancellation has not failed", job: job(first),
			pods: []corev1.Pod{pod(fetched, []corev1.ContainerStatus{ended(3, 8, 137)})},
			want: []string{"pending 1-2 FailedScheduling Pulling", "fetch files 2-3", "run 3-8", "greet 0-9 below RUN"},
		},
		{
			name: "a pod that never started", job: job(first), pods: []corev1.Pod{pod(nil, nil)}, failure: "no image",
			want: []string{"pending 1-9 FailedScheduling Pulling", "greet 0-9 Error: no image below RUN"},
		},
		{
			name: "no pod", job: job(first), failure: "refused",
			want: []string{"pending 1-9 FailedScheduling Pulling", "greet 0-9 Error: refused below RUN"},
		},
		{
			name:    "the attempts of all pods together",
			job:     job(first),
			failure: "it broke",
			pods: []corev1.Pod{
				pod([]corev1.ContainerStatus{ended(1, 2, 0)}, []corev1.ContainerStatus{ended(2, 4, 3)}),
				pod([]corev1.ContainerStatus{ended(5, 6, 0)}, []corev1.ContainerStatus{ended(6, 8, 3)}),
			},
			want: []string{"pending 1-1 FailedScheduling Pulling", "fetch files 1-6", "run 6-8 Error: it broke", "greet 0-9 Error: it broke below RUN"},
		},
		{
			name: "no span starts before the trigger, though Kubernetes' seconds do", job: job(first), pods: []corev1.Pod{pod(fetched, passed)},
			triggeredAt: noon.Add(2500 * time.Millisecond),
			want:        []string{"pending 2.5-2.5", "fetch files 2.5-3", "run 3-8", "greet 2.5-9 below RUN"},
		},
		{
			name: "no span ends after the task", job: job(first), pods: []corev1.Pod{pod(fetched, passed)}, triggeredAt: noon.Add(9500 * time.Millisecond),
			want: []string{"pending 9.5-9.5", "fetch files 9.5-9.5", "run 9.5-9.5", "greet 9.5-9.5 below RUN"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(telemetry.IDGenerator{})).Tracer("")
			task := keptn.Task{TriggeredID: "1", Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", Name: "test", TriggeredAt: test.triggeredAt}
			// The scheduler uses events.k8s.io, whose events have no lastTimestamp.
			events := []corev1.Event{
				{Reason: "FailedScheduling", EventTime: metav1.NewMicroTime(at(1).Time)},
				{Reason: "Pulling", LastTimestamp: at(1)}, {Reason: "Later", LastTimestamp: at(30)},
			}
			for range 2 { // the same each time
				Write(
					t.Context(),
					tracer,
					Job{Task: task, Job: test.job, Pods: test.pods, Events: events, Result: keptn.RunFailure, Failure: test.failure},
					noon.Add(time.Minute),
				)
			}
			ids := map[string]string{
				telemetry.SpanID("1").String():                              "RUN",
				telemetry.SpanID("uid").String():                            "greet",
				telemetry.SpanID("uid", "pending").String():                 "pending",
				telemetry.SpanID("uid", "queued").String():                  "queued",
				telemetry.SpanID("jobs", "job-1-000-001", "fetch").String(): "fetch files",
				telemetry.SpanID("jobs", "job-1-000-001", "run").String():   "run",
			}
			var got []string
			for _, span := range recorder.Ended() {
				text := fmt.Sprintf(
					"%s %v-%v",
					span.Name(),
					span.StartTime().Sub(noon).Seconds(),
					span.EndTime().Truncate(time.Millisecond).Sub(noon).Seconds(),
				)
				if !span.EndTime().After(span.StartTime()) {
					t.Errorf("%s takes no time at all", span.Name())
				}
				if span.Status().Code == codes.Error {
					text += " Error: " + span.Status().Description
				}
				for _, told := range span.Events() {
					text += " " + told.Name
				}
				parent := ids[span.Parent().SpanID().String()]
				if parent != "greet" {
					text += " below " + parent
				}
				if ids[span.SpanContext().SpanID().String()] != span.Name() {
					t.Errorf("%s has the id %s", span.Name(), span.SpanContext().SpanID())
				}
				got = append(got, text)
			}
			if difference := cmp.Diff(append(append([]string{}, test.want...), test.want...), got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}
