package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}

func job(name string, phase run.Phase) batchv1.Job {
	task, err := json.Marshal(
		keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v", Labels: map[string]string{"build": "17"}},
	)
	if err != nil {
		panic(err)
	}
	created := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "jobs", Name: name, Labels: map[string]string{run.EventIDLabel: "1"},
			Annotations: map[string]string{run.TaskAnnotation: string(task), run.TaskNameAnnotation: name},
		},
		Spec: batchv1.JobSpec{
			Suspend:  new(phase == run.Waiting),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{ActiveDeadlineSeconds: new(int64(300))}},
		},
		Status: batchv1.JobStatus{StartTime: new(at(1))},
	}
	condition := batchv1.JobCondition{Status: corev1.ConditionTrue, LastTransitionTime: at(9)}
	switch phase {
	case run.Succeeded:
		condition.Type = batchv1.JobComplete
	case run.Failed:
		condition.Type, condition.Reason, condition.Message = batchv1.JobFailed, "BackoffLimitExceeded", "Job has reached the specified backoff limit"
	default:
		return created
	}
	created.Status.Conditions = []batchv1.JobCondition{condition}
	return created
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
	created := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "pod", CreationTimestamp: at(1)}}
	for _, status := range statuses {
		if status.Name == run.FetcherContainer {
			status.State.Terminated.StartedAt, status.State.Terminated.FinishedAt = at(2), at(3)
			created.Status.InitContainerStatuses = append(created.Status.InitContainerStatuses, status)
		} else {
			created.Status.ContainerStatuses = append(created.Status.ContainerStatuses, status)
		}
	}
	return created
}

// world has the Jobs of one run, each with its pods, and logs by container.
type world struct {
	jobs []batchv1.Job
	pods map[string][]corev1.Pod
	logs map[string]string
	err  error
	// events are Kubernetes' events about everything; logErr is the error of reading a log.
	events []corev1.Event
	logErr error
	// password is the only value of the only Secret, unless the Secret is gone.
	password string
	isGone   bool

	resumed, deleted, givenUp, reported []string
}

type runs struct{ *world }

func (r runs) List(context.Context, string) ([]batchv1.Job, error) { return r.jobs, r.err }
func (r runs) Resume(_ context.Context, job *batchv1.Job) error {
	r.resumed = append(r.resumed, job.Name)
	return nil
}

func (r runs) Delete(_ context.Context, job *batchv1.Job) error {
	r.deleted = append(r.deleted, job.Name)
	return nil
}

func (r runs) MarkReported(_ context.Context, job *batchv1.Job, _ time.Time) error {
	r.reported = append(r.reported, job.Name)
	return nil
}

func (r runs) MarkSucceeded(_ context.Context, job *batchv1.Job, why string) error {
	job.Annotations[run.SucceededAnnotation] = why
	return nil
}

func (r runs) GiveUp(_ context.Context, job *batchv1.Job, why string, at time.Time) error {
	r.givenUp = append(r.givenUp, job.Name)
	for index := range r.jobs {
		if r.jobs[index].Name == job.Name {
			r.jobs[index].Annotations[run.FailureAnnotation] = why
			r.jobs[index].Annotations[run.FailedAtAnnotation] = at.Format(time.RFC3339)
		}
	}
	return nil
}

type pods struct{ *world }

func (p pods) Events(context.Context, string, types.UID) ([]corev1.Event, error) {
	return p.events, nil
}

func (p pods) List(_ context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	return p.pods[job.Name], nil
}

func (p pods) Log(_ context.Context, _ *corev1.Pod, container string, to io.Writer) error {
	_, err := io.WriteString(to, p.logs[container])
	return errors.Join(err, p.logErr)
}

type secrets struct{ *world }

func (s secrets) Secret(context.Context, string, string) (*corev1.Secret, error) {
	if s.isGone {
		return nil, nil
	}
	return &corev1.Secret{Data: map[string][]byte{"PASSWORD": []byte(s.password)}}, nil
}

func newWatcher(fakes *world, tracers *sdktrace.TracerProvider) *Watcher {
	return &Watcher{
		Runs: runs{fakes}, Pods: pods{fakes}, Secrets: secrets{fakes}, MaxLogBytes: 256 << 10, LogTimeout: time.Minute,
		Tracer: tracers.Tracer("watcher"),
		Now:    func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
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
	silent := job("one", run.Succeeded)
	silent.Annotations[run.SilentAnnotation] = "true"
	silentFailed := job("one", run.Failed)
	silentFailed.Annotations[run.SilentAnnotation] = "true"
	tests := []struct {
		name  string
		world world
		of    string
		want  outcome
		err   error
	}{
		{
			name:  "the next Job is started",
			world: world{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Waiting)}},
			of:    "one",
			want:  outcome{Resumed: []string{"two"}},
		},
		{
			name:  "a running Job needs nothing",
			world: world{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Running)}},
			of:    "one",
			want:  outcome{},
		},
		{name: "a run without Jobs counts as reported", world: world{}, of: "one", want: outcome{}},
		{
			name: "the last success is the run's", world: world{
				jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Succeeded)},
				pods: map[string][]corev1.Pod{
					"one": {pod(exited("fetch-files", 0), exited("task", 0))},
					"two": {pod()},
				},
				logs: map[string]string{"task": "hello\n", "fetch-files": "fetched\n"},
			}, of: "two", want: outcome{Data: finished(
				"succeeded",
				"pass",
				"Task 'one' finished successfully!\nTask 'two' finished successfully!\n\nLogs:\nTask 'one':\nContainer task of pod pod:\nhello\n\n",
				map[string]any{"start": "2026-11-24T12:00:03Z", "end": "2026-11-24T12:00:09Z"},
			)},
		},
		{
			name: "an earlier Job that ends last is reported, too",
			world: world{
				jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Succeeded)},
				pods: map[string][]corev1.Pod{"one": {pod()}, "two": {pod()}},
			},
			of:   "one",
			want: outcome{Data: finished("succeeded", "pass", "Task 'one' finished successfully!\nTask 'two' finished successfully!\n", span)},
		},
		{
			name: "the first failed Job ends the run", world: world{
				jobs: []batchv1.Job{job("one", run.Failed), job("two", run.Waiting), job("three", run.Waiting)},
				pods: map[string][]corev1.Pod{"one": {pod(exited("task", 3))}}, logs: map[string]string{"task": "boom"},
			}, of: "one", want: outcome{Data: finished(
				"errored",
				"fail",
				"Task 'one' failed: Container task failed (Reason: Error, ExitCode: 3).\n\nLogs:\n"+
					"Container task of pod pod terminated with an error (Reason: Error, ExitCode: 3):\nboom\n",
			), Deleted: []string{"three", "two"}},
		},
		{
			name: "missing files are reported with the log of the init container", world: world{
				jobs: []batchv1.Job{
					job("one", run.Failed),
				},
				pods: map[string][]corev1.Pod{"one": {pod(exited("fetch-files", 1))}},
				logs: map[string]string{"fetch-files": "no x.py"},
			}, of: "one", want: outcome{Data: finished(
				"errored",
				"fail",
				"Task 'one' failed: The files of the task could not be fetched.\n\nLogs:\n"+
					"Container fetch-files of pod pod terminated with an error (Reason: Error, ExitCode: 1):\nno x.py\n",
			)},
		},
		{
			name: "an unreadable log does not delay the result", world: world{
				jobs: []batchv1.Job{job("one", run.Succeeded)}, pods: map[string][]corev1.Pod{"one": {pod(exited("task", 0))}}, logErr: errDown,
			}, of: "one", want: outcome{Data: finished(
				"succeeded",
				"pass",
				"Task 'one' finished successfully!\n\nLogs:\nContainer task of pod pod has a log that could not be read (the API server is down):\n\n",
				map[string]any{"start": "2026-11-24T12:00:03Z", "end": "2026-11-24T12:00:09Z"},
			)},
		},
		{
			name:  "the log of a deleted pod is missing",
			world: world{jobs: []batchv1.Job{job("one", run.Succeeded)}},
			of:    "one",
			want: outcome{
				Data: finished("succeeded", "pass", "Task 'one' finished successfully!\n\nLogs:\nThe log is missing: the pod of Job one is gone:\n\n", span),
			},
		},
		{name: "a silent run ends silently", world: world{jobs: []batchv1.Job{silent}}, of: "one", want: outcome{}},
		{
			name:  "a failed silent run appears in Keptn's log only",
			world: world{jobs: []batchv1.Job{silentFailed}},
			of:    "one",
			want: outcome{
				Data: map[string]any{
					"labels": map[string]any{"build": "17"}, "project": "p", "stage": "s", "service": "v",
					"message": "Task 'one' failed: The pod was deleted before the task ended, by hand or with its node or namespace. Run the sequence again.\n",
				},
			},
		},
		{name: "unreadable Jobs are retried", world: world{err: errDown}, of: "one", want: outcome{}, err: errDown},
		{
			name:  "a forbidden namespace is retried until its deletion is seen",
			world: world{err: &store.RefusedError{Err: errDown}},
			of:    "one",
			want:  outcome{},
			err:   errDown,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			completed := job(test.of, run.Succeeded)
			sent := protocol.Completed(&completed, protocol.JobFinished, noon)
			watcher := newWatcher(&test.world, sdktrace.NewTracerProvider())
			reply, err := watcher.Handle(t.Context(), sent)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || function.IsPermanent(err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			got := outcome{Resumed: test.world.resumed, Deleted: test.world.deleted}
			if reply != nil {
				if err := keptnEvent(t, reply).DataAs(&got.Data); err != nil {
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

// The task's own container has to start in time, in every attempt.
func TestTaskThatDoesNotStartIsGivenUp(t *testing.T) {
	running := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(2)}}}
	}
	waiting := corev1.ContainerStatus{Name: "task", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "ImagePullBackOff", Message: `Back-off pulling image "locust:nope"`,
	}}}
	pulling := func(init ...corev1.ContainerStatus) corev1.Pod {
		created := podAt("last", 240)
		created.Status.InitContainerStatuses, created.Status.ContainerStatuses = init, []corev1.ContainerStatus{waiting}
		created.Spec.Containers = []corev1.Container{{Name: "task", Image: "locust:nope"}}
		return created
	}
	refused := []corev1.Event{
		{Reason: "Failed", Message: `Failed to pull image "locust:nope": docker.io/library/locust:nope: not found`}, {Reason: "Failed", Message: "Error: " +
			"ImagePullBackOff"},
	}
	unscheduled := podAt("last", 240)
	unscheduled.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "Other", Message: "not the reason"},
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available"},
	}
	const why = `Image locust:nope of container task cannot be pulled: Failed to pull image "locust:nope": docker.io/library/locust:nope: not found`
	tests := []struct {
		name string
		pods []corev1.Pod
		want string
	}{
		{name: "its files are fetched", pods: []corev1.Pod{pulling(exited(run.FetcherContainer, 0))}, want: "The pod did not start within 4m59s. " + why},
		{name: "its files are being fetched", pods: []corev1.Pod{pulling(running(run.FetcherContainer))}},
		{name: "a native sidecar runs", pods: []corev1.Pod{pulling(running("istio-proxy"))}, want: "The pod did not start within 4m59s. " + why},
		{name: "an init container has ended", pods: []corev1.Pod{pulling(exited("istio-init", 0))}, want: "The pod did not start within 4m59s. " + why},
		{name: "an attempt failed before", pods: []corev1.Pod{podAt("first", 1, exited("task", 1)), pulling()}, want: "The pod did not start within 1m0s. " + why},
		{
			name: "it has no node", pods: []corev1.Pod{unscheduled},
			want: "The pod did not start within 4m59s. No node can run the pod (Unschedulable: 0/1 nodes are available).",
		},
		{
			name: "only events tell so far", pods: []corev1.Pod{podAt("last", 240)},
			want: `The pod did not start within 4m59s. Failed: Failed to pull image "locust:nope": docker.io/library/locust:nope: not found`,
		},
		{name: "the task runs", pods: []corev1.Pod{{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{running("task")}}}}},
		{name: "the task has ended", pods: []corev1.Pod{pod(exited("task", 0))}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakes := &world{jobs: []batchv1.Job{job("one", run.Running)}, pods: map[string][]corev1.Pod{"one": test.pods}, events: refused}
			w := newWatcher(fakes, sdktrace.NewTracerProvider())
			w.Now = func() time.Time { return noon.Add(5 * time.Minute) }
			reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobUnstarted, noon))
			if err != nil || (reply == nil) != (test.want == "") {
				t.Fatalf("got %v, %v", reply, err)
			}
			if got := fakes.jobs[0].Annotations[run.FailureAnnotation]; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if reply == nil {
				return
			}
			// Otherwise a new bridge would hold the answer back for minutes.
			if answer, err := protocol.ParseAnswer(*reply); err != nil || !answer.EndedAt.Equal(noon.Add(5*time.Minute)) {
				t.Errorf("it ended at %v, %v", answer.EndedAt, err)
			}
		})
	}
}

func TestCancellationDeletesWhatHasNotEnded(t *testing.T) {
	cluster := &world{jobs: []batchv1.Job{job("one", run.Succeeded), job("two", run.Running), job("three", run.Waiting)}}
	cancelled := protocol.Cancelled("bridge", "1", "c", noon)
	reply, err := newWatcher(cluster, sdktrace.NewTracerProvider()).Handle(t.Context(), cancelled)
	if reply != nil || err != nil {
		t.Errorf("got %v, %v", reply, err)
	}
	if difference := cmp.Diff([]string{"three", "two"}, cluster.deleted); difference != "" {
		t.Errorf("deleted (-want +got):\n%s", difference)
	}
	// Else jobsource would have the run finished a second time.
	if difference := cmp.Diff([]string{"one", "two", "three"}, cluster.reported); difference != "" {
		t.Errorf("reported (-want +got):\n%s", difference)
	}
}

// The bridge may request the result of a run whose Jobs are missing or have not started.
func TestRunThatCanNotEndByItselfIsEnded(t *testing.T) {
	plan := func(job batchv1.Job) batchv1.Job {
		job.Annotations[run.PlanAnnotation] = `[{"namespace":"jobs","name":"one","task":"First"},{"namespace":"jobs","name":"two","task":"Second"}]`
		return job
	}
	completed := func(name, how string) event.Event {
		about := plan(job(name, run.Running))
		return protocol.Completed(&about, how, noon)
	}
	awaited := func(reason string) event.Event {
		return protocol.Awaited("bridge", "1", []byte(`{"triggeredID":"1","name":"test","context":"c","project":"p","stage":"s","service":"v"}`), reason, noon)
	}
	pulling := pod()
	pulling.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "task", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "nothing"`},
	}}}
	running := pod()
	running.Status.InitContainerStatuses = []corev1.ContainerStatus{
		{Name: "fetch-files", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	}
	refused := &store.RefusedError{Namespaces: []string{"jobs"}, Err: errDown}
	gone := "The Jobs of this task were deleted before its result was read. Run the sequence again."
	tests := []struct {
		name             string
		event            event.Event
		world            world
		message          string
		givenUp, deleted []string
	}{
		{name: "the only Job was deleted", event: completed("one", protocol.JobDeleted), world: world{}, message: gone},
		{name: "an unseen deletion of all Jobs", event: awaited(""), world: world{}, message: gone},
		{name: "no executor accepted it", event: awaited("status 503"), world: world{}, message: "status 503"},
		{
			name:  "no executor answered, and its Jobs exist",
			event: awaited("status 503"),
			world: world{jobs: []batchv1.Job{plan(job("one", run.Running)), plan(job("two", run.Waiting))}},
		},
		{
			name:    "all were deleted with their namespace",
			event:   completed("one", protocol.JobDeleted),
			world:   world{err: refused},
			message: gone,
		},
		{
			name:  "one of two was deleted with its namespace",
			event: completed("two", protocol.JobDeleted),
			world: world{err: refused, jobs: []batchv1.Job{plan(job("one", run.Succeeded))}, pods: map[string][]corev1.Pod{"one": {pod()}}},
			message: "Task 'Second' failed: Job two in namespace jobs was deleted before the task ended. Run the sequence again.\n" +
				"Task 'one' finished successfully!\n",
		},
		{
			name:    "unreadable Jobs, silent for too long",
			event:   awaited("nothing was heard"),
			world:   world{err: refused},
			message: "nothing was heard",
		},
		{
			name:    "the running Job was deleted",
			event:   completed("one", protocol.JobDeleted),
			world:   world{jobs: []batchv1.Job{plan(job("two", run.Waiting))}},
			message: "Task 'First' failed: Job one in namespace jobs was deleted before the task ended. Run the sequence again.\n",
			deleted: []string{"two"},
		},
		{
			name:  "a waiting Job was deleted",
			event: completed("one", protocol.JobFinished),
			world: world{jobs: []batchv1.Job{plan(job("one", run.Succeeded))}, pods: map[string][]corev1.Pod{"one": {pod()}}},
			message: "Task 'Second' failed: Job two in namespace jobs was deleted before the task ended. Run the sequence again.\n" +
				"Task 'one' finished successfully!\n",
		},
		{
			name:    "a Job could not start",
			event:   completed("one", protocol.JobUnstarted),
			world:   world{jobs: []batchv1.Job{plan(job("one", run.Running)), plan(job("two", run.Waiting))}, pods: map[string][]corev1.Pod{"one": {pulling}}},
			message: "Task 'one' failed: The pod did not start within 4m59s. The image of container task cannot be pulled: Back-off pulling image \"nothing\"\n",
			givenUp: []string{"one"},
			deleted: []string{"two"},
		},
		{
			name:  "fetching files counts as started",
			event: completed("one", protocol.JobUnstarted),
			world: world{jobs: []batchv1.Job{plan(job("one", run.Running)), plan(job("two", run.Waiting))}, pods: map[string][]corev1.Pod{"one": {running}}},
		},
		{
			name:  "a readable Job continues",
			event: completed("one", protocol.JobFinished),
			world: world{err: refused, jobs: []batchv1.Job{plan(job("one", run.Running))}},
		},
		{
			name:  "an active run needs nothing",
			event: awaited(""),
			world: world{jobs: []batchv1.Job{plan(job("one", run.Running)), plan(job("two", run.Waiting))}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			watcher := newWatcher(&test.world, sdktrace.NewTracerProvider())
			watcher.Now = func() time.Time { return noon.Add(5 * time.Minute) }
			for range 2 { // again, it is the same
				reply, err := watcher.Handle(t.Context(), test.event)
				if err != nil {
					t.Fatal(err)
				}
				message := ""
				if reply != nil {
					var data map[string]any
					if err := keptnEvent(t, reply).DataAs(&data); err != nil {
						t.Fatal(err)
					}
					message, _ = data["message"].(string)
					if data["result"] != "fail" {
						t.Errorf("the result is %v", data["result"])
					}
				}
				if message != test.message {
					t.Errorf("got %q, want %q", message, test.message)
				}
			}
			slices.Sort(test.world.deleted)
			if difference := cmp.Diff(
				[][]string{test.givenUp, test.deleted},
				[][]string{test.world.givenUp, slices.Compact(test.world.deleted)},
			); difference != "" {
				t.Errorf("given up, deleted (-want +got):\n%s", difference)
			}
		})
	}
}

// failed returns a failed Job with the reason and message of its condition.
func failed(reason, message string) batchv1.Job {
	created := job("one", run.Failed)
	created.Status.Conditions[0].Reason, created.Status.Conditions[0].Message = reason, message
	created.Spec.Template.Spec.Containers = []corev1.Container{
		{Name: "task", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}},
	}
	return created
}

// Each sentence about a failure follows from Kubernetes' facts.
func TestReasons(t *testing.T) {
	changed := func(created corev1.Pod, change func(*corev1.Pod)) []corev1.Pod {
		created.Spec.NodeName = "node-1"
		change(&created)
		return []corev1.Pod{created}
	}
	eventOf := func(reason, message string) []corev1.Event {
		return []corev1.Event{{Reason: reason, Message: message}}
	}
	overdue := func(pod *corev1.Pod) { pod.Status.Reason = "DeadlineExceeded" }
	disrupted := func(reason, message string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message}}
		}
	}
	waiting := corev1.ContainerStatus{
		Name:  "task",
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `secret "x" not found`}},
	}
	limited := failed("BackoffLimitExceeded", "")
	limited.Annotations[run.DeadlineAnnotation] = "TASK_DEADLINE_SECONDS of the installation"
	givenUp := job("one", run.Running)
	givenUp.Annotations[run.FailureAnnotation] = "The pod did not start within 5m0s. no image"
	killed := exited("task", 137)
	killed.State.Terminated.Reason = "OOMKilled"
	stopped := exited("task", 137)
	stopped.State.Terminated.StartedAt = metav1.Time{}
	proxy := pod(exited("task", 0), exited("istio-proxy", 143))
	proxy.Status.Phase = corev1.PodFailed
	tests := []struct {
		name   string
		job    batchv1.Job
		pods   []corev1.Pod
		events []corev1.Event
		want   string
	}{
		{
			name: "an exit code",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{pod(exited("task", 3))},
			want: "Container task failed (Reason: Error, ExitCode: 3).",
		},
		{
			name: "a sidecar's exit code is not the task's",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{pod(exited("task", 3), exited("istio-proxy", 143))},
			want: "Container task failed (Reason: Error, ExitCode: 3).",
		},
		{
			name: "a sidecar that failed before the task began",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{proxy},
			want: "Container istio-proxy failed (Reason: Error, ExitCode: 143).",
		},
		{
			name: "out of memory",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{pod(killed)},
			want: "The container ran out of memory (OOMKilled, limit 64Mi). Raise resources.limits.memory.",
		},
		{
			name: "its own time limit",
			job:  failed("BackoffLimitExceeded", ""),
			pods: changed(pod(exited("task", 137)), overdue),
			want: "The task did not finish within 300 seconds (maxPollDuration).",
		},
		{
			name: "the installation's time limit",
			job:  limited,
			pods: changed(pod(exited("task", 137)), overdue),
			want: "The task did not finish within 300 seconds (TASK_DEADLINE_SECONDS of the installation).",
		},
		{
			name:   "an image not pulled within the time limit",
			job:    failed("BackoffLimitExceeded", ""),
			pods:   changed(pod(stopped), overdue),
			events: eventOf("Failed", `Failed to pull image "x"`),
			want:   `The task could not start. The image of container task cannot be pulled: Failed to pull image "x"`,
		},
		{
			name: "the Job's time limit, without a pod",
			job:  failed("DeadlineExceeded", ""),
			want: "The task did not finish within 300 seconds (maxPollDuration).",
		},
		{
			name:   "a volume cannot be mounted",
			job:    failed("DeadlineExceeded", ""),
			events: eventOf("FailedMount", "MountVolume.SetUp failed"),
			want:   "The task could not start. FailedMount: MountVolume.SetUp failed",
		},
		{
			name:   "no node can run it",
			job:    failed("DeadlineExceeded", ""),
			events: eventOf("FailedScheduling", "0/1 nodes are available"),
			want:   "The task could not start. FailedScheduling: 0/1 nodes are available",
		},
		{
			name: "a container cannot be created",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{pod(waiting)},
			want: `Container task cannot start (CreateContainerConfigError: secret "x" not found).`,
		},
		{name: "evicted", job: failed("BackoffLimitExceeded", ""), pods: changed(pod(exited("task", 137)), func(pod *corev1.Pod) {
			pod.Status.Reason, pod.Status.Message = "Evicted", `Usage of EmptyDir volume "keptn-files" exceeds the limit "20Mi". `
		}), want: `The pod was evicted (Usage of EmptyDir volume "keptn-files" exceeds the limit "20Mi". ). ` +
			"The volume at /keptn is full. Raise volumeSize, or JOB_VOLUME_SIZE of the installation."},
		{name: "evicted because of /tmp", job: failed("BackoffLimitExceeded", ""), pods: changed(pod(exited("task", 137)), func(pod *corev1.Pod) {
			pod.Status.Reason, pod.Status.Message = "Evicted", `Usage of EmptyDir volume "tmp" exceeds the limit "100Mi". `
		}), want: `The pod was evicted (Usage of EmptyDir volume "tmp" exceeds the limit "100Mi". ). ` +
			`The volume at /tmp is full. Raise JOB_TMP_SIZE of the installation.`},
		{
			name: "lost node",
			job:  failed("BackoffLimitExceeded", ""),
			pods: changed(pod(), disrupted("DeletionByTaintManager", "")),
			want: "Node node-1 was lost. Run the sequence again.",
		},
		{
			name: "its pod is being deleted",
			job:  failed("BackoffLimitExceeded", ""),
			pods: changed(
				pod(corev1.ContainerStatus{Name: "task", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}),
				func(pod *corev1.Pod) { pod.DeletionTimestamp = new(at(5)) },
			),
			want: podDeleted,
		},
		{
			name: "preempted",
			job:  failed("BackoffLimitExceeded", ""),
			pods: changed(pod(exited("task", 137)), disrupted("PreemptionByScheduler", "more important")),
			want: "Kubernetes stopped the pod (PreemptionByScheduler: more important). Run the sequence again.",
		},
		{
			name:   "its pod was refused",
			job:    failed("DeadlineExceeded", ""),
			events: eventOf("FailedCreate", "exceeded quota: small"),
			want:   "The pod was rejected (FailedCreate: exceeded quota: small).",
		},
		{name: "its pod was deleted", job: failed("BackoffLimitExceeded", ""), want: podDeleted},
		{
			name: "its files cannot be fetched",
			job:  failed("BackoffLimitExceeded", ""),
			pods: []corev1.Pod{pod(exited("fetch-files", 1))},
			want: "The files of the task could not be fetched.",
		},
		{name: "given up", job: givenUp, want: "The pod did not start within 5m0s. no image"},
		{
			name: "any other reason, in Kubernetes' words",
			job:  failed("PodFailurePolicy", "rule 1"),
			want: "job one failed. Reason: PodFailurePolicy, Message: rule 1",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if difference := cmp.Diff(test.want, evidence{job: &test.job, pods: test.pods, events: test.events}.failure()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A dashboard counts runs by these results.
func TestResultOfAFailedJob(t *testing.T) {
	givenUp := failed("DeadlineExceeded", "")
	givenUp.Annotations[run.FailureAnnotation] = "why"
	overdue := pod()
	overdue.Status.Reason = podDeadlineExceeded
	tests := []struct {
		name string
		job  batchv1.Job
		pods []corev1.Pod
		want keptn.RunResult
	}{
		{name: "its container failed", job: failed("BackoffLimitExceeded", ""), pods: []corev1.Pod{pod(exited("task", 3))}, want: keptn.RunFailure},
		{name: "its time was over", job: failed("DeadlineExceeded", ""), want: keptn.RunTimeout},
		{name: "the time of its pod was over", job: failed("BackoffLimitExceeded", ""), pods: []corev1.Pod{overdue}, want: keptn.RunTimeout},
		{name: "it was given up", job: givenUp, want: keptn.RunError},
		{name: "its pod is gone", job: failed("BackoffLimitExceeded", ""), want: keptn.RunError},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := (evidence{job: &test.job, pods: test.pods}).runResult(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// The message stays within the bridge's limit as JSON, for any number of logs and any characters.
func TestMessageIsBounded(t *testing.T) {
	for name, character := range map[string]string{"text": "x\n", "what JSON escapes": "<>"} {
		for _, jobs := range []int{1, 100} {
			for _, attempts := range []int{1, 11} {
				t.Run(fmt.Sprintf("%s of %d tasks with %d attempts", name, jobs, attempts), func(t *testing.T) {
					fakes := &world{pods: map[string][]corev1.Pod{}, logs: map[string]string{"task": strings.Repeat(character, 300<<9)}}
					for index := range jobs {
						created := job(fmt.Sprintf("task-%03d", index), run.Failed)
						created.Annotations[run.PlanAnnotation] = "[]"
						created.Labels[run.ActionIndexLabel] = strconv.Itoa(index)
						fakes.jobs = append(fakes.jobs, created)
						for range attempts {
							fakes.pods[created.Name] = append(fakes.pods[created.Name], pod(said(strings.Repeat("<", 4000), 1)))
						}
					}
					reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
					if err != nil {
						t.Fatal(err)
					}
					if size := len(keptnEvent(t, reply).Data()); size > maxMessageBytes+(4<<10) || size < maxMessageBytes/8 {
						t.Errorf("the event has %d bytes", size)
					}
				})
			}
		}
	}
}

// hanging are pods whose logs never end.
type hanging struct{ pods }

func (h hanging) Log(ctx context.Context, _ *corev1.Pod, _ string, to io.Writer) error {
	_, _ = io.WriteString(to, "begins\n")
	<-ctx.Done()
	return ctx.Err()
}

// The Trigger waits 85 seconds for a reply.
func TestLogsShareOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes := &world{jobs: []batchv1.Job{job("one", run.Failed)}, pods: map[string][]corev1.Pod{}}
		for range 9 {
			fakes.pods["one"] = append(fakes.pods["one"], pod(exited("task", 1)))
		}
		w := newWatcher(fakes, sdktrace.NewTracerProvider())
		w.Pods, w.LogTimeout, w.Now = hanging{pods{fakes}}, 30*time.Second, time.Now
		began := time.Now()
		reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		const line = "has a log that could not be read (not complete within 3.333s; all of it: kubectl logs --namespace jobs pod --container task):\\nbegins"
		if got := strings.Count(string(keptnEvent(t, reply).Data()), line); got != 9 {
			t.Errorf("%d logs say that they are not complete: %s", got, keptnEvent(t, reply).Data())
		}
	})
}

// Actions are independent of each other, and silent ones do not affect the result.
func TestActionsOfARunAreToldTogether(t *testing.T) {
	const plan = `[{"namespace":"jobs","name":"one","task":"First"},` +
		`{"namespace":"jobs","name":"two","task":"Second","action":1,"reports":true},{"namespace":"jobs","name":"three","task":"Third","action":2,"reports":true}]`
	created := func(name string, phase run.Phase) batchv1.Job {
		job := job(name, phase)
		job.Annotations[run.PlanAnnotation] = plan
		if name == "one" {
			job.Annotations[run.SilentAnnotation] = "true"
		}
		return job
	}
	tests := []struct {
		name string
		jobs []batchv1.Job
		// resumed are the Jobs that start next. Otherwise there are a result, the first lines of the message,
		// and an entry of Keptn's log.
		resumed                 []string
		result, message, logged string
	}{
		{
			name: "a failed action starts the next one",
			jobs: []batchv1.Job{created("one", run.Failed), created("two", run.Waiting), created("three", run.Waiting)}, resumed: []string{"two"},
		},
		{
			name: "an action with a deleted Job starts the next one",
			jobs: []batchv1.Job{created("one", run.Succeeded), created("three", run.Waiting)}, resumed: []string{"three"},
		},
		{
			name:   "one failed action fails the run",
			jobs:   []batchv1.Job{created("one", run.Succeeded), created("two", run.Failed), created("three", run.Succeeded)},
			result: "fail", message: "Task 'two' failed: " + podDeleted + "\nTask 'three' finished successfully!\n",
		},
		{
			name:   "a failed silent action is logged",
			jobs:   []batchv1.Job{created("one", run.Failed), created("two", run.Succeeded), created("three", run.Succeeded)},
			result: "pass", message: "Task 'two' finished successfully!\nTask 'three' finished successfully!\n",
			logged: "Task 'one' failed: " + podDeleted + "\n",
		},
		{
			name:   "a deleted silent action is logged",
			jobs:   []batchv1.Job{created("two", run.Succeeded), created("three", run.Succeeded)},
			result: "pass", message: "Task 'two' finished successfully!\nTask 'three' finished successfully!\n",
			logged: "Task 'First' failed: Job one in namespace jobs was deleted before the task ended. Run the sequence again.\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pods := map[string][]corev1.Pod{}
			for _, job := range test.jobs {
				if run.PhaseOf(&job) == run.Succeeded {
					pods[job.Name] = []corev1.Pod{pod(exited("task", 0))}
				}
			}
			fakes := &world{jobs: test.jobs, pods: pods}
			reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&test.jobs[0], protocol.JobFinished, noon))
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.resumed, fakes.resumed); difference != "" {
				t.Errorf("resumed (-want +got):\n%s", difference)
			}
			if reply == nil {
				if test.result != "" {
					t.Error("there is no reply")
				}
				return
			}
			answer, err := protocol.ParseAnswer(*reply)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{string(answer.Outcome.Result), answer.Outcome.Message, answer.Logged}
			if difference := cmp.Diff([]string{test.result, test.message, test.logged}, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// keptnEvent is the event that the bridge makes of an answer.
func keptnEvent(t *testing.T, reply *event.Event) event.Event {
	t.Helper()
	answer, err := protocol.ParseAnswer(*reply)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Task.Event(answer.Phase, answer.At, answer.Outcome)
}
