package watcher

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// said is a task's container that wrote something to /dev/termination-log.
func said(message string, code int32) corev1.ContainerStatus {
	status := exited("task", code)
	status.State.Terminated.Message = message
	return status
}

func TestTaskSaysItsResult(t *testing.T) {
	const wrong = "what it wrote to /dev/termination-log is wrong: "
	tests := []struct {
		name     string
		messages []string
		code     int32
		// want is the data but for project, stage, service and test.
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
			want: `{"status": "succeeded", "result": "warning", "message": "Task 'one' finished successfully!\nslow\n",
				"labels": {"build": "17", "report": "http://x", "n": "5"}, "get-sli": {"indicatorValues": [1.5]}}`,
		},
		{
			name: "the worst of several tasks wins, and what they say is put together", messages: []string{
				`{"result": "warning", "message": "first", "a": {"x": 1, "y": 1}}`, `{"result": "pass", "message": "second", "a": {"y": 2}, "b": 3}`,
			},
			want: `{"status": "succeeded", "result": "warning",
				"message": "Task 'one' finished successfully!\nTask 'two' finished successfully!\nTask 'one': first\nTask 'two': second\n",
				"labels": {"build": "17"}, "a": {"x": 1, "y": 2}, "b": 3}`,
		},
		{
			name: "it may fail", messages: []string{`{"result": "fail"}`},
			want: `{"status": "succeeded", "result": "fail", "message": "Task 'one' finished successfully!\n", "labels": {"build": "17"}}`,
		},
		{
			name: "what is errored has failed", messages: []string{`{"status": "errored"}`},
			want: `{"status": "errored", "result": "fail", "message": "Task 'one' finished successfully!\n", "labels": {"build": "17"}}`,
		},
		{
			name: "what failed does not pass", messages: []string{`{"status": "succeeded", "result": "pass", "message": "all is well"}`}, code: 3,
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' failed: container task ended (Reason: Error, ExitCode: 3)\nall is well\n\nLogs:\n` +
				`Container task of pod pod terminated with an error (Reason: Error, ExitCode: 3):\n\n"}`,
		},
		{
			name: "a text of what failed is its reason", messages: []string{"no route"}, code: 3,
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' failed: container task ended (Reason: Error, Message: no route, ExitCode: 3)\n\nLogs:\n` +
				`Container task of pod pod terminated with an error (Reason: Error, Message: no route, ExitCode: 3):\n\n"}`,
		},
		{
			name: "what it may not say is told, and no success", messages: []string{`{"result": "green", "status": 5, "message": "m"}`},
			want: `{"status": "succeeded", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' finished successfully!\nm\n` + wrong + `status must be text, not 5\n` + wrong + `result \"green\" must be pass, warning or fail\n"}`,
		},
		{
			name: "a status that Keptn does not know is an error", messages: []string{`{"status": "done"}`},
			want: `{"status": "errored", "result": "fail", "labels": {"build": "17"},
				"message": "Task 'one' finished successfully!\n` + wrong + `status \"done\" must be succeeded or errored\n"}`,
		},
		{
			name: "what is cut off is text", messages: []string{`{"result": "fail`},
			want: `{"status": "succeeded", "result": "pass", "message": "Task 'one' finished successfully!\n{\"result\": \"fail\n", "labels": {"build": "17"}}`,
		},
		{
			name: "its own property has the times of the test, too", messages: []string{`{"test": {"users": 5, "end": "later"}}`},
			want: `{"status": "succeeded", "result": "pass", "message": "Task 'one' finished successfully!\n", "labels": {"build": "17"}}`,
			test: `{"users": 5, "start": "2026-11-24T12:00:01Z", "end": "later"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			world := &world{pods: map[string][]corev1.Pod{}}
			names := []string{"one", "two"}
			for index, message := range test.messages {
				phase := run.Succeeded
				if test.code != 0 {
					phase = run.Failed
				}
				world.jobs = append(world.jobs, job(names[index], phase))
				world.pods[names[index]] = []corev1.Pod{pod(said(message, test.code))}
			}
			reply, err := newWatcher(world, sdktrace.NewTracerProvider()).Handle(t.Context(), run.Completed(&world.jobs[0], run.Finished, noon))
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			if err := json.Unmarshal(reply.Data(), &got); err != nil {
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

// What is secret to a task is not told to Keptn, wherever it stands.
func TestSecretsAreHidden(t *testing.T) {
	const password = "correct horse"
	failed := job("one", run.Failed)
	failed.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"}, Key: "PASSWORD"},
	}}}}}
	for name, message := range map[string]string{
		"a text":    "could not log in by " + password,
		"an object": `{"message": "by ` + password + `", "labels": {"a": "` + password + `"}, "deep": {"b": ["` + password + `"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			world := &world{
				jobs: []batchv1.Job{failed}, pods: map[string][]corev1.Pod{"one": {pod(said(message, 3))}},
				logs: map[string]string{"task": "the password is " + password + "\n"}, password: password,
			}
			reply, err := newWatcher(world, sdktrace.NewTracerProvider()).Handle(t.Context(), run.Completed(&failed, run.Finished, noon))
			if err != nil {
				t.Fatal(err)
			}
			if text := reply.String(); strings.Contains(text, password) || !strings.Contains(text, "the password is ***") {
				t.Errorf("Keptn is told:\n%s", text)
			}
		})
	}
}
