package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}

const traceparent = "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01"

func job(name string, phase run.Phase) batchv1.Job {
	task, err := json.Marshal(keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v", Labels: map[string]string{"build": "17"}})
	if err != nil {
		panic(err)
	}
	made := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "jobs", Name: name, Labels: map[string]string{run.EventIDLabel: "1"},
			Annotations: map[string]string{run.TaskAnnotation: string(task), run.TaskNameAnnotation: name, run.TraceparentAnnotation: traceparent},
		},
		Spec:   batchv1.JobSpec{Suspend: new(phase == run.Waiting), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{ActiveDeadlineSeconds: new(int64(300))}}},
		Status: batchv1.JobStatus{StartTime: new(at(1))},
	}
	condition := batchv1.JobCondition{Status: corev1.ConditionTrue, LastTransitionTime: at(9)}
	switch phase {
	case run.Succeeded:
		condition.Type = batchv1.JobComplete
	case run.Failed:
		condition.Type, condition.Reason, condition.Message = batchv1.JobFailed, "BackoffLimitExceeded", "Job has reached the specified backoff limit"
	default:
		return made
	}
	made.Status.Conditions = []batchv1.JobCondition{condition}
	return made
}

func exited(name string, code int32) corev1.ContainerStatus {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, StartedAt: at(3), FinishedAt: at(8),
	}}}
}

func pod(statuses ...corev1.ContainerStatus) corev1.Pod {
	made := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "pod", CreationTimestamp: at(1)}}
	for _, status := range statuses {
		if status.Name == run.FetcherContainer {
			status.State.Terminated.StartedAt, status.State.Terminated.FinishedAt = at(2), at(3)
			made.Status.InitContainerStatuses = append(made.Status.InitContainerStatuses, status)
		} else {
			made.Status.ContainerStatuses = append(made.Status.ContainerStatuses, status)
		}
	}
	return made
}

// cluster has the Jobs of one run, each with its pods, and logs by container.
type cluster struct {
	jobs []batchv1.Job
	pods map[string][]corev1.Pod
	logs map[string]string
	err  error

	resumed, deleted []string
}

type runs struct{ *cluster }

func (runs runs) List(context.Context, string) ([]batchv1.Job, error) { return runs.jobs, runs.err }
func (runs runs) Resume(_ context.Context, job *batchv1.Job) error {
	runs.resumed = append(runs.resumed, job.Name)
	return nil
}

func (runs runs) Delete(_ context.Context, job *batchv1.Job) error {
	runs.deleted = append(runs.deleted, job.Name)
	return nil
}

type pods struct{ *cluster }

func (pods pods) List(_ context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	return pods.pods[job.Name], nil
}

func (pods pods) Log(_ context.Context, _ *corev1.Pod, container string) (string, error) {
	return pods.logs[container], nil
}

func newWatcher(cluster *cluster, tracers *sdktrace.TracerProvider) *Watcher {
	return &Watcher{
		Runs: runs{cluster}, Pods: pods{cluster},
		Trace: Tracer{Tracer: tracers.Tracer("watcher"), Propagator: propagation.TraceContext{}},
		Now:   func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
	}
}

var errDown = errors.New("the API server is down")

func TestHandle(t *testing.T) {
	type outcome struct {
		Data             map[string]any
		Resumed, Deleted []string
	}
	finished := func(status, result, message string, more ...any) map[string]any {
		data := map[string]any{
			"project": "p", "stage": "s", "service": "v", "labels": map[string]any{"build": "17"},
			"status": status, "result": result, "message": message,
		}
		if len(more) > 0 {
			data["test"] = more[0]
		}
		return data
	}
	span := map[string]any{"start": "2026-11-24T12:00:01Z", "end": "2026-11-24T12:00:09Z"}
	deadline := pod(exited("task", 137))
	deadline.Status.Reason = "DeadlineExceeded"
	unstartable := pod()
	unstartable.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "task", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "nothing"`},
	}}}
	silent := job("one", run.Succeeded)
	silent.Annotations[run.SilentAnnotation] = "true"
	silentFailed := job("one", run.Failed)
	silentFailed.Annotations[run.SilentAnnotation] = "true"
	tests := []struct {
		name    string
		cluster cluster
		of      string
		want    outcome
		err     error
	}{
		{"the next Job is started", cluster{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Waiting)}}, "one", outcome{Resumed: []string{"two"}}, nil},
		{"while a Job runs nothing is done", cluster{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Running)}}, "one", outcome{}, nil},
		{"a run whose Jobs are gone is over", cluster{}, "one", outcome{}, nil},
		{
			"the last success is the run's", cluster{
				jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Succeeded)},
				pods: map[string][]corev1.Pod{"one": {pod(exited("fetch-files", 0), exited("task", 0))}}, logs: map[string]string{"task": "hello\n", "fetch-files": "fetched\n"},
			}, "two", outcome{Data: finished("succeeded", "pass",
				"Task 'one' finished successfully!\n\nLogs:\nContainer task of pod pod:\nhello\n\n\n\nTask 'two' finished successfully!\n\nLogs:\n\n\n", span)}, nil,
		},
		{"an earlier Job says nothing after the end", cluster{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Succeeded)}}, "one", outcome{}, nil},
		{
			"the first failed Job ends the run and nothing after it is started", cluster{
				jobs: []batchv1.Job{job("one", run.Failed), job("two", run.Waiting), job("three", run.Waiting)},
				pods: map[string][]corev1.Pod{"one": {pod(exited("task", 3))}}, logs: map[string]string{"task": "boom"},
			}, "one", outcome{Data: finished("errored", "fail",
				"Task 'one' failed: container task ended (Reason: Error, ExitCode: 3)\n\nLogs: \nContainer task of pod pod terminated with an error (Reason: Error, ExitCode: 3):\nboom\n\n\n"), Deleted: []string{"two", "three"}}, nil,
		},
		{
			"files that could not be fetched are told with the init container's log", cluster{
				jobs: []batchv1.Job{job("one", run.Failed)}, pods: map[string][]corev1.Pod{"one": {pod(exited("fetch-files", 1))}}, logs: map[string]string{"fetch-files": "no x.py"},
			}, "one", outcome{Data: finished("errored", "fail",
				"Task 'one' failed: its files could not be fetched\n\nLogs: \nContainer fetch-files of pod pod terminated with an error (Reason: Error, ExitCode: 1):\nno x.py\n\n\n")}, nil,
		},
		{
			"a time limit is told in seconds", cluster{jobs: []batchv1.Job{job("one", run.Failed)}, pods: map[string][]corev1.Pod{"one": {deadline}}},
			"one", outcome{Data: finished("errored", "fail",
				"Task 'one' failed: it did not finish within 300 seconds (maxPollDuration)\n\nLogs: \nContainer task of pod pod terminated with an error (Reason: Error, ExitCode: 137):\n\n\n\n")}, nil,
		},
		{
			"a container that can't start is told with Kubernetes' reason", cluster{jobs: []batchv1.Job{job("one", run.Failed)}, pods: map[string][]corev1.Pod{"one": {unstartable}}},
			"one", outcome{Data: finished("errored", "fail", "Task 'one' failed: container task could not start (ImagePullBackOff: Back-off pulling image \"nothing\")\n\nLogs: \n\n\n")}, nil,
		},
		{
			"without a pod the Job's own reason is told", cluster{jobs: []batchv1.Job{job("one", run.Failed)}},
			"one", outcome{Data: finished("errored", "fail", "Task 'one' failed: job one failed. Reason: BackoffLimitExceeded, Message: Job has reached the specified backoff limit\n\nLogs: \n\n\n")}, nil,
		},
		{"a silent run ends silently", cluster{jobs: []batchv1.Job{silent}}, "one", outcome{}, nil},
		{
			"a silent run that fails is told to Keptn's log only", cluster{jobs: []batchv1.Job{silentFailed}}, "one",
			outcome{Data: map[string]any{"task": "test", "message": "Task 'one' failed: job one failed. Reason: BackoffLimitExceeded, Message: Job has reached the specified backoff limit\n\nLogs: \n\n\n"}}, nil,
		},
		{"what can't be read is tried again", cluster{err: errDown}, "one", outcome{}, errDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			completed := job(test.of, run.Succeeded)
			sent, err := run.Completed(&completed)
			if err != nil {
				t.Fatal(err)
			}
			watcher := newWatcher(&test.cluster, sdktrace.NewTracerProvider())
			reply, err := watcher.Handle(t.Context(), sent)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || function.IsPermanent(err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			got := outcome{Resumed: test.cluster.resumed, Deleted: test.cluster.deleted}
			if reply != nil {
				if err := reply.DataAs(&got.Data); err != nil {
					t.Fatal(err)
				}
				again, err := watcher.Handle(t.Context(), sent)
				if err != nil || cmp.Diff(reply.String(), again.String()) != "" {
					t.Errorf("delivered again, it replies %v, %v", again, err)
				}
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestCancellationDeletesWhatHasNotEnded(t *testing.T) {
	cluster := &cluster{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Running), job("three", run.Waiting)}}
	cancelled, err := run.Cancelled("bridge", "1", noon)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := newWatcher(cluster, sdktrace.NewTracerProvider()).Handle(t.Context(), cancelled)
	if reply != nil || err != nil {
		t.Errorf("got %v, %v", reply, err)
	}
	if difference := cmp.Diff([]string{"three", "two"}, cluster.deleted); difference != "" {
		t.Errorf("deleted (-want +got):\n%s", difference)
	}
}

// What Keptn takes is for the bridge to know, which cuts further.
func TestMessageIsBounded(t *testing.T) {
	long := strings.Repeat("x\n", 1<<20)
	text := message([]report{{task: "one", logs: long}, {task: "two", logs: long, failure: "boom"}})
	const limit = 1 << 20 // recording 52-oversize-http
	if len(text) > limit || len(text) < maxMessageBytes {
		t.Errorf("the message has %d bytes", len(text))
	}
	if !strings.HasPrefix(text, "Task 'one' finished") || !strings.Contains(text, "bytes are left out here") {
		t.Errorf("the message begins with %q", text[:60])
	}
}

func TestJobBecomesSpansBelowTheExecutors(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	failed := job("one", run.Failed)
	newWatcher(&cluster{}, tracers).Trace.Job(t.Context(), &failed, []corev1.Pod{pod(exited("fetch-files", 0), exited("task", 3))})
	type span struct {
		Name, Parent string
		From, To     int
	}
	names := map[string]string{"00f067aa0ba902b7": "executor"}
	for _, ended := range recorder.Ended() {
		names[ended.SpanContext().SpanID().String()] = ended.Name()
	}
	var got []span
	for _, ended := range recorder.Ended() {
		if id := ended.SpanContext().TraceID().String(); id != "4ed578f61e1e4a119b2e9a7111760f5b" {
			t.Errorf("%s is in trace %s", ended.Name(), id)
		}
		got = append(got, span{
			ended.Name(), names[ended.Parent().SpanID().String()],
			int(ended.StartTime().Sub(noon).Seconds()), int(ended.EndTime().Sub(noon).Seconds()),
		})
	}
	want := []span{{"pending", "job one", 1, 2}, {"init", "job one", 2, 3}, {"run", "job one", 3, 8}, {"job one", "executor", 1, 9}}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
