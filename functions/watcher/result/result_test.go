package result

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

func TestParse(t *testing.T) {
	mistakes := func(texts ...string) Result { return Result{Mistakes: texts} }
	deep := strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	tests := []struct {
		name, message string
		want          Result
	}{
		{name: "text", message: " 3 of 5 are slow\n", want: Result{Message: "3 of 5 are slow"}},
		{name: "text in brackets", message: "[INFO] fine", want: Result{Message: "[INFO] fine"}},
		{
			name: "an object", message: `{"result": "warning", "status": "succeeded", "message": " slow ", "labels": {"a": "b"}, "x": {"y": [1.50, null]}}`,
			want: Result{
				Status: "succeeded", Result: "warning", Message: "slow", Labels: map[string]string{"a": "b"},
				Data: map[string]any{"x": map[string]any{"y": []any{json.Number("1.50"), nil}}},
			},
		},
		{name: "a byte order mark", message: "\ufeff{\"result\":\"fail\"}", want: Result{Result: "fail", Data: map[string]any{}}},
		{name: "null counts as no report", message: `{"result":null,"labels":null}`, want: Result{Data: map[string]any{}}},
		{
			name: "labels of other types", message: `{"labels": {"null": null, "n": 5, "o": {"a": 1}, "l": [1, "<"], "big": 12345678901234567890, "b": true}}`,
			want: Result{
				Data:   map[string]any{},
				Labels: map[string]string{"n": "5", "o": `{"a":1}`, "l": `[1,"\u003c"]`, "big": "12345678901234567890", "b": "true"},
			},
		},
		{
			name: "a trailing comma", message: `{"result": "fail", "message": "2 of 5 checks failed",}`,
			want: mistakes("it is not a JSON object: invalid character '}' looking for beginning of object key string at byte 54"),
		},
		{
			name: "a truncated object", message: `{"result": "fail`,
			want: mistakes("it is not a JSON object: unexpected end of JSON input at byte 16"),
		},
		{
			name: "single quotes", message: `{'result': 'fail'}`,
			want: mistakes(`it is not a JSON object: invalid character '\'' looking for beginning of object key string at byte 2`),
		},
		{
			name: "a line before the object", message: "checking…\n{\"result\":\"fail\"}",
			want: mistakes("it is not a JSON object: invalid character 'c' looking for beginning of value at byte 1"),
		},
		{
			name: "two objects", message: "{\"result\":\"fail\"}\n{\"message\":\"x\"}\n",
			want: mistakes("it is not a JSON object: invalid character '{' after top-level value at byte 19"),
		},
		{name: "a list", message: `[{"result":"fail"}]`, want: mistakes("it is not a JSON object, but a list; write {…}")},
		{name: "an empty list", message: `[]`, want: mistakes("it is not a JSON object, but a list; write {…}")},
		{name: "a number beyond float64", message: `{"a":{"value":[1, 1e400]}}`, want: mistakes("a.value[1] has the number 1e400, which is out of range")},
		{name: "a NUL in a name", message: `{"a\u0000":1}`, want: mistakes(`the name of member "a\x00" contains a NUL character`)},
		{name: "a duplicate member", message: `{"result":"fail","result":"pass"}`, want: mistakes("member result is a duplicate")},
		{name: "too deep", message: deep, want: mistakes(strings.TrimSuffix(strings.Repeat("a.", maxDepth+1), ".") + " is nested deeper than 32 levels")},
		{
			name: "wrong types", message: `{"result": false, "status": {}, "message": 5, "labels": ["report=http://x"]}`,
			want: Result{Data: map[string]any{}, Mistakes: []string{
				"status must be text, not {}", "result must be text, not false", "message must be text, not 5",
				`labels must be an object such as {"report": "http://…"}, not ["report=http://x"]`,
			}},
		},
		{
			name: "unknown values", message: `{"result": "FAIL", "status": "done"}`,
			want: Result{Status: "done", Result: "FAIL", Data: map[string]any{}, Mistakes: []string{
				`status "done" must be succeeded or errored`, `result "FAIL" must be pass, warning or fail`,
			}},
		},
		{
			name: "another case", message: `{"Result": "fail"}`,
			want: Result{Data: map[string]any{"Result": "fail"}, Mistakes: []string{"unknown member Result; did you mean result?"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if difference := cmp.Diff(test.want, Parse(test.message)); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// attempt returns a pod whose task ended with an exit code and a message.
func attempt(name string, code int32, message string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "sidecar", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: `{"result":"warning"}`}}},
			{Name: run.TaskContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: code, Message: message, StartedAt: metav1.Unix(1, 0),
			}}},
		}},
	}
}

// A kubelet keeps the last 4,096 bytes, and of several containers' messages 12 KiB in all.
func TestReportThatMayBeTruncatedIsAMistake(t *testing.T) {
	for _, test := range []struct{ containers, bytes, limit int }{
		{1, 4095, 4096}, {1, 4096, 4096}, {3, 4095, 4096}, {4, 3071, 3072}, {4, 3072, 3072}, {6, 2048, 2048},
	} {
		t.Run(fmt.Sprintf("%d bytes of one in %d containers", test.bytes, test.containers), func(t *testing.T) {
			pod := attempt("a", 0, `{"x":"`+strings.Repeat("x", test.bytes-len(`{"x":""}`))+`"}`)
			pod.Spec.Containers = make([]corev1.Container, test.containers)
			var want []string
			if test.bytes >= test.limit {
				want = []string{fmt.Sprintf("it has %d bytes or more, so Kubernetes may have truncated it; report less than that, for example only the failed "+
					"checks", test.limit)}
			}
			if difference := cmp.Diff(want, Of(&pod).Mistakes); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestAttempt(t *testing.T) {
	failed, passed, last := attempt("failed", 1, `{"result":"fail"}`), attempt("passed", 0, ""), attempt("last", 2, "no route")
	running := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "running"}}
	tests := []struct {
		name      string
		pods      []corev1.Pod
		succeeded bool
		want      string
		result    Result
	}{
		{name: "the one that succeeded", pods: []corev1.Pod{failed, passed}, succeeded: true, want: "passed"},
		{name: "the successful attempt, though another was replaced", pods: []corev1.Pod{passed, running}, succeeded: true, want: "passed"},
		{name: "the last of a Job that failed", pods: []corev1.Pod{failed, last}, want: "last"},
		{name: "its report", pods: []corev1.Pod{last, failed}, want: "failed", result: Result{Result: "fail", Data: map[string]any{}}},
		{name: "no successful attempt is left", pods: []corev1.Pod{failed}, succeeded: true},
		{name: "no attempt is left"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Attempt(test.pods, test.succeeded)
			name := ""
			if got != nil {
				name = got.Name
			}
			if difference := cmp.Diff(test.result, Of(got)); difference != "" || name != test.want {
				t.Errorf("got %q, want %q (-want +got):\n%s", name, test.want, difference)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	pass := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}
	object := func(text string) map[string]any { return Parse(text).Data }
	tests := []struct {
		name     string
		reports  []string
		want     keptn.Outcome
		replaced []string
	}{
		{name: "nothing", reports: []string{"text"}, want: pass},
		{name: "the worst result", reports: []string{`{"result":"warning"}`, `{"result":"pass"}`}, want: keptn.Outcome{Status: "succeeded", Result: "warning"}},
		{name: "a failure", reports: []string{`{"result":"fail"}`, `{"result":"warning"}`}, want: keptn.Outcome{Status: "succeeded", Result: "fail"}},
		{name: "an error", reports: []string{`{"status":"errored"}`, `{"status":"succeeded"}`}, want: keptn.Outcome{Status: "errored", Result: "fail"}},
		{name: "a mistake", reports: []string{`{"result":0}`}, want: keptn.Outcome{Status: "errored", Result: "fail"}},
		{
			name: "lists are appended", reports: []string{`{"get-sli":{"indicatorValues":[{"metric":"a"}]}}`, `{"get-sli":{"indicatorValues":[{"metric":"b"}]}}`},
			want: keptn.Outcome{Status: "succeeded", Result: "pass", Data: object(`{"get-sli":{"indicatorValues":[{"metric":"a"},{"metric":"b"}]}}`)},
		},
		{
			name: "objects are merged", reports: []string{`{"labels":{"a":"1"},"x":{"a":1,"b":{"c":1}}}`, `{"labels":{"a":"2"},"x":{"a":1,"b":{"d":2,"c":3}},"y":[]}`},
			want: keptn.Outcome{
				Status: "succeeded", Result: "pass", Labels: map[string]string{"a": "2"}, Data: object(`{"x":{"a":1,"b":{"c":3,"d":2}},"y":[]}`),
			},
			replaced: []string{"labels.a", "x.b.c"},
		},
		{
			name: "other types are replaced", reports: []string{`{"x":[1]}`, `{"x":{"a":1}}`},
			want: keptn.Outcome{Status: "succeeded", Result: "pass", Data: object(`{"x":{"a":1}}`)}, replaced: []string{"x"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := pass
			var replaced []string
			for _, report := range test.reports {
				replaced = append(replaced, Parse(report).Merge(&got)...)
			}
			if len(got.Data) == 0 {
				got.Data = nil
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if difference := cmp.Diff(test.replaced, replaced); difference != "" {
				t.Errorf("replaced (-want +got):\n%s", difference)
			}
		})
	}
}

// Keptn, which only knows float64, can decode everything that passes.
func FuzzParse(f *testing.F) {
	f.Add(`{"result": "warning", "labels": {"a": 1}, "get-sli": {"b": [1, {"c": null}]}}`)
	f.Add("a text")
	f.Add(`{"a": 1e400}`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed := Parse(text)
		if len(parsed.Mistakes) > 0 {
			return
		}
		content, err := json.Marshal(parsed.Data)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var decoded map[string]any
		if err := json.Unmarshal(content, &decoded); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
