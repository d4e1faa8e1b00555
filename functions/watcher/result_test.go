package watcher

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// said is a container that wrote something to /dev/termination-log.
func said(message string, code int32) corev1.ContainerStatus {
	status := exited("task", code)
	status.State.Terminated.Message = message
	return status
}

func TestTaskSaysItsResult(t *testing.T) {
	const wrong = "Task 'one' failed: The report in /dev/termination-log is invalid: "
	tests := []struct {
		name     string
		messages []string
		code     int32
		// want is the data without project, stage, service and test.
		want string
		test string
	}{
		{
			name: "nothing", messages: []string{""},
			want: `{"status": "succeeded", "result": "pass", "message": "Task 'one' finished successfully!\n", "labels": {"build": "17"}}`,
		},
		{
			name: "a text is the message's last line", messages: []string{" 3 of 5 are slow\n"},
			want: `{"status": "succeeded", "result": "pass", "message": "Task 'one' finished successfully!\n3 of 5 are slow\n", "labels": {"build": "17"}}`,
		},
		{
			name: "an object becomes a part of the event",
			messages: []string{
				`{"result": "warning", "message": "slow", "labels": {"report": "http://x", "n": 5}, "get-sli": {"indicatorValues": [1.50]}, "project": "other"}`,
			},
			want: `{"status": "succeeded", "result": "warning", "message": "Task 'one' finished with a warning!\nslow\n",
				"labels": {"build": "17", "report": "http://x", "n": "5"}, "get-sli": {"indicatorValues": [1.5]}}`,
		},
		{
			name: "the worst result wins, and messages are joined", messages: []string{
				`{"result": "warning", "message": "first", "a": {"x": 1, "y": 1}}`, `{"result": "pass", "message": "second", "a": {"y": 2}, "b": 3}`,
			},
			want: `{"status": "succeeded", "result": "warning",
				"message": "Task 'one' finished with a warning!\nTask 'two' finished successfully!\nTask 'one': first\nTask 'two': second\n` +
				`Task 'two' replaced the a.y that an earlier task reported.\n",
				"labels": {"build": "17"}, "a": {"x": 1, "y": 2}, "b": 3}`,
		},
		{
			name: "it reports a failure", messages: []string{`{"result": "fail"}`},
			want: `{"status": "succeeded", "result": "fail", "message": "Task 'one' failed: The task reported the result fail.\n", "labels": {"build": "17"}}`,
		},
		{
			name: "errored implies fail", messages: []string{`{"status": "errored"}`},
			want: `{"status": "errored", "result": "fail", "message": "Task 'one' failed: The task reported the status errored.\n", "labels": {"build": "17"}}`,
		},
		{
			name: "a failed container cannot report a pass", messages: []string{`{"status": "succeeded", "result": "pass", "message": "all is well"}`}, code: 3,
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' failed: Container task failed (Reason: Error, ExitCode: 3).\nall is well\n\nLogs:\n` +
				`Container task of pod pod terminated with an error (Reason: Error, ExitCode: 3):\n\n"}`,
		},
		{
			name: "the text of a failed container is its reason", messages: []string{"no route"}, code: 3,
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' failed: Container task failed (Reason: Error, Message: no route, ExitCode: 3).\n\nLogs:\n` +
				`Container task of pod pod terminated with an error (Reason: Error, Message: no route, ExitCode: 3):\n\n"}`,
		},
		{
			name: "an invalid report is an error", messages: []string{`{"result": "green", "status": 5, "message": "m"}`},
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "` + wrong + `status must be text, not 5; result \"green\" must be pass, warning or fail\nm\n"}`,
		},
		{
			name: "a truncated report is an error", messages: []string{`{"result": "fail`},
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "` + wrong + `it is not a JSON object: unexpected end of JSON input at byte 16\n"}`,
		},
		{
			name: "a list of tests is replaced", messages: []string{`{"test": [1]}`},
			want: `{"status": "succeeded", "result": "pass", "labels": {"build": "17"},
				"message": "Task 'one' finished successfully!\nThe reported member test was replaced: Keptn expects an object with the test's start and end.\n"}`,
			test: `{"start": "2026-11-24T12:00:03Z", "end": "2026-11-24T12:00:09Z"}`,
		},
		{
			name: "the member test also gets the times", messages: []string{`{"test": {"users": 5, "end": "later"}}`},
			want: `{"status": "succeeded", "result": "pass", "message": "Task 'one' finished successfully!\n", "labels": {"build": "17"}}`,
			test: `{"users": 5, "start": "2026-11-24T12:00:03Z", "end": "later"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakes := &world{pods: map[string][]corev1.Pod{}}
			names := []string{"one", "two"}
			for index, message := range test.messages {
				phase := run.Succeeded
				if test.code != 0 {
					phase = run.Failed
				}
				fakes.jobs = append(fakes.jobs, job(names[index], phase))
				fakes.pods[names[index]] = []corev1.Pod{pod(said(message, test.code))}
			}
			reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			if err := json.Unmarshal(keptnEvent(t, reply).Data(), &got); err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"project": "p", "stage": "s", "service": "v"} {
				if got[name] != value {
					t.Errorf("%s is %v", name, got[name])
				}
				delete(got, name)
			}
			if test.test != "" {
				var own any
				if err := json.Unmarshal([]byte(test.test), &own); err != nil {
					t.Fatal(err)
				}
				if difference := cmp.Diff(own, got["test"]); difference != "" {
					t.Errorf("test (-want +got):\n%s", difference)
				}
			}
			delete(got, "test")
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The span of a failed Job shows the task's own message below the reason.
func TestFailureOfAJobHasTheTasksMessage(t *testing.T) {
	for message, want := range map[string]string{
		"":                            "Container task failed (Reason: Error, ExitCode: 3).",
		`{"message":"2 of 5 failed"}`: "Container task failed (Reason: Error, ExitCode: 3).\n2 of 5 failed",
	} {
		fakes := &world{jobs: []batchv1.Job{job("one", run.Failed)}, pods: map[string][]corev1.Pod{"one": {pod(said(message, 3))}}}
		reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := protocol.ParseAnswer(*reply)
		if err != nil || len(answer.Jobs) != 1 || answer.Jobs[0].Failure != want {
			t.Errorf("%q: got %v, %+v", message, err, answer.Jobs)
		}
	}
}

// A Secret's value never reaches Keptn.
func TestSecretsAreRedacted(t *testing.T) {
	const password = "correct horse"
	failed := job("one", run.Failed)
	failed.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"}, Key: "PASSWORD"},
	}}}}}
	cut := strings.Repeat("x", maxSentenceBytes/2-5) + password + strings.Repeat("x", maxSentenceBytes/2)
	for name, message := range map[string]string{
		"a text":           "could not log in by " + password,
		"an object":        `{"message": "by ` + password + `", "labels": {"a": "` + password + `"}, "deep": {"b": ["` + password + `"]}, "` + password + `": 1}`,
		"a mistake":        `{"result": "` + password + `"}`,
		"where it is cut":  cut[:4000],
		"a coloured value": "correct \x1b[1mhorse",
	} {
		t.Run(name, func(t *testing.T) {
			fakes := &world{
				jobs: []batchv1.Job{failed}, pods: map[string][]corev1.Pod{"one": {pod(said(message, 3))}},
				logs: map[string]string{"task": "the password is correct \x1b[1mhorse\n"}, password: password,
			}
			reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&failed, protocol.JobFinished, noon))
			if err != nil {
				t.Fatal(err)
			}
			text := reply.String()
			if strings.Contains(text, password) || strings.Contains(text, "correct") || !strings.Contains(text, "the password is ***") ||
				!strings.Contains(text, "*** stands for the value of PASSWORD of Secret credentials.") {
				t.Errorf("Keptn gets:\n%s", text)
			}
		})
	}
}

// Also the output of attempts before the last one, which only spans show.
func TestEveryAttemptIsRedacted(t *testing.T) {
	for _, isGone := range []bool{false, true} {
		retried := failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
		retried.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"},
		}}}
		fakes := &world{
			jobs:   []batchv1.Job{retried},
			pods:   map[string][]corev1.Pod{"one": {podAt("first", 1, said("logged in with s3cr3t", 1)), podAt("second", 9, said("again with s3cr3t", 1))}},
			isGone: isGone, password: "s3cr3t",
		}
		reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&retried, protocol.JobFinished, noon))
		if err != nil {
			t.Fatal(err)
		}
		if text := reply.String(); strings.Contains(text, "s3cr3t") || !strings.Contains(text, "first") {
			t.Errorf("gone %t: %s", isGone, text)
		}
	}
}

// The values are not known any more, so nothing is published that may contain them.
func TestLogIsWithheldIfASecretIsGone(t *testing.T) {
	succeeded := job("one", run.Succeeded)
	succeeded.Spec.Template.Spec.Containers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"},
	}}}}}
	fakes := &world{
		jobs: []batchv1.Job{succeeded}, pods: map[string][]corev1.Pod{"one": {pod(said(`{"result":"warning","message":"s3cr3t","x":"s3cr3t"}`, 0))}},
		logs: map[string]string{"task": "s3cr3t"}, isGone: true,
	}
	reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&succeeded, protocol.JobFinished, noon))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(keptnEvent(t, reply).Data(), &got); err != nil {
		t.Fatal(err)
	}
	want := "Task 'one' finished with a warning!\nThe log and the reported data are withheld: Secret credentials was deleted while the task ran, " +
		"or cannot be read. " +
		"To read the log: kubectl logs --namespace jobs --selector batch.kubernetes.io/job-name=one --container task --tail -1\n"
	if difference := cmp.Diff(want, got["message"]); difference != "" || got["result"] != "warning" || strings.Contains(reply.String(), "s3cr3t") {
		t.Errorf("%v (-want +got):\n%s", got, difference)
	}
}

// podAt is a pod, created at a second after noon.
func podAt(name string, second int, statuses ...corev1.ContainerStatus) corev1.Pod {
	created := pod(statuses...)
	created.Name, created.CreationTimestamp = name, at(second)
	for index := range created.Status.ContainerStatuses {
		created.Status.ContainerStatuses[index].State.Terminated.StartedAt = at(second + 1)
	}
	return created
}

// Only the attempt counts that decides the Job, also for the span that lighthouse evaluates.
func TestLastAttemptDecides(t *testing.T) {
	for name, first := range map[string]string{
		"a failure":  `{"result":"fail","message":"2 of 5 checks failed","labels":{"failed":"2"}}`,
		"a warning":  `{"result":"warning"}`,
		"an error":   `{"status":"errored","message":"no connection"}`,
		"data":       `{"deployment":{"deploymentURIsLocal":["http://old"]}}`,
		"a mistake":  `{"result":`,
		"plain text": "no route",
	} {
		t.Run(name, func(t *testing.T) {
			fakes := &world{
				jobs: []batchv1.Job{job("one", run.Succeeded)},
				pods: map[string][]corev1.Pod{"one": {podAt("a", 1, said(first, 1)), podAt("b", 5, said("", 0))}},
			}
			reply, err := newWatcher(fakes, sdktrace.NewTracerProvider()).Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(keptnEvent(t, reply).Data(), &got); err != nil {
				t.Fatal(err)
			}
			message, _ := got["message"].(string)
			if !strings.HasPrefix(message, "Task 'one' finished successfully!\n\nLogs:\nContainer task of pod a terminated") {
				t.Errorf("got %q", message)
			}
			delete(got, "message")
			want := map[string]any{
				"project": "p", "stage": "s", "service": "v", "labels": map[string]any{"build": "17"}, "status": "succeeded", "result": "pass",
				"test": map[string]any{"start": "2026-11-24T12:00:06Z", "end": "2026-11-24T12:00:09Z"},
			}
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The task's own container decides, whatever becomes of a sidecar.
func TestSidecarDoesNotFailATask(t *testing.T) {
	overdue := pod(said(`{"result":"warning"}`, 0), exited("istio-proxy", 137))
	overdue.Status.Phase, overdue.Status.Reason = corev1.PodFailed, "DeadlineExceeded"
	broken := pod(exited("task", 0), exited("linkerd-proxy", 1))
	broken.Status.Phase = corev1.PodFailed
	const advice = "Use native sidecars, or keep sidecars out of tasks, for Istio with labels: {sidecar.istio.io/inject: \"false\"}.\n"
	for name, test := range map[string]struct {
		pod  corev1.Pod
		want string
	}{
		"it kept running": {overdue, "Task 'one' finished with a warning!\n" +
			"The task's container ended with exit code 0, but container istio-proxy of its pod kept running until maxPollDuration. " + advice},
		"it failed": {broken, "Task 'one' finished successfully!\n" +
			"The task's container ended with exit code 0, but container linkerd-proxy of its pod failed. " + advice},
	} {
		t.Run(name, func(t *testing.T) {
			fakes := &world{jobs: []batchv1.Job{job("one", run.Failed), job("two", run.Waiting)}, pods: map[string][]corev1.Pod{"one": {test.pod}}}
			w := newWatcher(fakes, sdktrace.NewTracerProvider())
			if reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon)); reply != nil || err != nil {
				t.Fatal(reply, err)
			}
			if difference := cmp.Diff([]string{"two"}, fakes.resumed); difference != "" {
				t.Errorf("resumed (-want +got):\n%s", difference)
			}
			fakes.jobs = fakes.jobs[:1]
			reply, err := w.Handle(t.Context(), protocol.Completed(&fakes.jobs[0], protocol.JobFinished, noon))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(keptnEvent(t, reply).Data(), &got); err != nil {
				t.Fatal(err)
			}
			message, _ := got["message"].(string)
			message, _, _ = strings.Cut(message, "\nLogs:")
			if difference := cmp.Diff(test.want, message); difference != "" || got["status"] != "succeeded" {
				t.Errorf("%v (-want +got):\n%s", got["status"], difference)
			}
		})
	}
}
