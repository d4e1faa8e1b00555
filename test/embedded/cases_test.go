package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
)

// Files that once went wrong, from Keptn's event to Keptn's event. The files and the events are in
// testdata/job-config. Tests of jobconfig cover the rejected files, with all similar mistakes.
func TestCasesOfJobConfig(t *testing.T) {
	// secret creates the Secret that the next task needs.
	var system *System
	secret := func(ctx context.Context, _ Container) int {
		created := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor-jobs", Name: "made-before", Labels: AllowedLabels()}, Data: map[string][]byte{"K": []byte("made")},
		}
		if _, err := system.Cluster.Client(nil).CoreV1().Secrets(created.Namespace).Create(ctx, created, metav1.CreateOptions{}); err != nil {
			return 1
		}
		return 0
	}
	system = start(t, Options{
		Programs: map[string]Program{"docker.io/alpine/k8s": secret},
		Objects:  []runtime.Object{&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor-jobs", Name: "deployer", Labels: AllowedLabels()}}},
	})
	keptn := console.Keptn{Call: system.Call}
	const test, evaluation = "test", "evaluation"
	passed := ending{"succeeded", []string{"test.started ", "test.finished pass"}}
	errored := ending{"errored", []string{"test.started ", "test.finished fail"}}
	nothing := ending{Stage: "aborted"} // by the user: nothing else ends the sequence
	tests := []struct {
		name string
		task string
		want ending
		// says are parts of the finished event's message, and hides are not; logs is Keptn's log.
		says, hides, logs []string
	}{
		{name: "01-second-action-is-dropped", task: test, want: errored, says: []string{"Task 'one' failed", "Task 'two' finished successfully!", "\ntwo\n"}},
		{
			name: "02-silent-failure-fails-the-tests", task: test, want: passed, says: []string{"Task 'tests' finished successfully!", "all pass"},
			hides: []string{"post"}, logs: []string{"Task 'post' failed: Container task failed (Reason: Error, ExitCode: 1).\n"},
		},
		{name: "03-empty-list-items-vanish", task: test, want: passed, says: []string{"[--user]\n[]\n[--password]\n[x]\n"}},
		{
			name: "04-reserved-annotation-hangs-the-sequence", task: test, want: errored,
			says: []string{"line 8, column 19: actions[0].tasks[0].annotations.job-executor.github.io/delivered is reserved"},
		},
		{name: "05-as-string", task: test, want: passed, says: []string{"\nX=cart\n"}},
		{name: "07-event-text-is-expanded", task: test, want: passed, says: []string{"pa$$word $(TOKEN) $5 / pa$$word $(TOKEN) $5\n"}},
		{name: "08-other-user-cannot-write-beside-its-files", task: test, want: passed},
		{name: "09-pod-refused-is-not-told", task: test, want: errored, says: []string{`Kubernetes would reject its pod: it violates PodSecurity "baseline:latest"`}},
		{name: "10-root-that-is-not-allowed", task: test, want: errored, says: []string{"runAsUser 0 needs runAsNonRoot: false"}},
		{name: "11-empty-service-account", task: test, want: passed},
		{name: "12-files-slash", task: test, want: passed, says: []string{"a.txt", "tf"}},
		{name: "13-files-leave-keptn-takes-a-minute", task: test, want: errored, says: []string{`files[0] "../x" contains ..`}},
		{name: "14-regexp-bomb", task: test, want: nothing, logs: []string{"is not a regular expression: it has 5010 characters; the limit is 512"}},
		{name: "15-jsonpath-bomb", task: test, want: errored, says: []string{"is a JSONPath with more than one .."}},
		{
			name: "17-apiversion-v1", task: test, want: errored,
			says: []string{"line 1, column 13: apiVersion v1 is not supported, use v2; in v2, cmd is a list"},
		},
		{name: "18-short-form", task: test, want: passed, says: []string{"Task 'A' finished successfully!", "\nhello\n"}},
		{name: "19-annotations-as-list", task: test, want: passed},
		{name: "20-unused-action-breaks-the-rest", task: test, want: passed, says: []string{"\nok\n"}},
		{
			name: "21-broken-file-fails-foreign-tasks", task: evaluation, want: nothing,
			logs: []string{`matches sh.keptn.event.evaluation.triggered: "A" is for sh.keptn.event.test.triggered`},
		},
		{name: "22-line-of-a-syntax-error", task: test, want: errored, says: []string{"line 9, column 7: this does not match the lines above"}},
		// Keptn itself rounds 9007199254740993.
		{name: "23-numbers-in-yaml", task: test, want: passed, says: []string{"count: 12345678\nid: 9007199254740992\n", "\nI=9007199254740992\n"}},
		{name: "25-secret-of-an-earlier-task", task: test, want: passed, says: []string{"\nK=made\n"}},
		{name: "26-second-document-ignored", task: test, want: errored, says: []string{"line 9, column 1: a second document (---) is ignored"}},
		{name: "27-label-that-is-no-variable-name", task: test, want: passed, hides: []string{"LABELS_"}},
		{name: "28-single-quotes-in-a-path", task: test, want: passed, says: []string{"\nB=17\n"}},
		{name: "29-go-words-in-messages", task: test, want: nothing, logs: []string{"sh.keptn.event.test.triggered: none names an event"}},
		{name: "30-demo-keptn-in-a-script", task: test, want: passed, says: []string{"folder/a.txt\nfolder\n"}},
	}
	for index, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			directory := filepath.Join("testdata/job-config", test.name)
			config, err := os.ReadFile(filepath.Join(directory, "config.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(filepath.Join(directory, "event.json"))
			if err != nil {
				t.Fatal(err)
			}
			var triggered struct{ Data map[string]any }
			if err := json.Unmarshal(content, &triggered); err != nil {
				t.Fatal(err)
			}
			project := fmt.Sprintf("case-%d", index)
			files := map[string][]byte{"job/config.yaml": config, "folder/a.txt": []byte("a"), "tf/main.tf": []byte("b")}
			if err := keptn.CreateProject(t.Context(), project, console.Shipyard("dev", test.task), "cart", []string{"dev"}, files); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"project", "stage", "service"} {
				delete(triggered.Data, name)
			}
			keptnContext, err := keptn.Trigger(t.Context(), project, "dev", "pipeline", "cart", triggered.Data)
			if err != nil {
				t.Fatal(err)
			}
			aborts := test.want.Stage == nothing.Stage
			if aborts {
				awaitTaken(t, system, keptn, project, keptnContext, false)
			}
			var message string
			err = console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
				logged, err := logOf(ctx, keptn, keptnContext)
				if err != nil {
					return err
				}
				for _, text := range test.logs {
					if !strings.Contains(logged, text) {
						return fmt.Errorf("%q is missing in Keptn's log:\n%s", text, logged)
					}
				}
				if aborts {
					if err := keptn.Abort(ctx, project, keptnContext); err != nil {
						return err
					}
				}
				got, events, err := endingOf(ctx, keptn, project, keptnContext)
				if err != nil {
					return err
				}
				if len(events) > 0 {
					message = events[len(events)-1].Data.Message
				}
				if difference := cmp.Diff(test.want, got); difference != "" {
					return fmt.Errorf("(-want +got):\n%s\n%s", difference, message)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range test.says {
				if !strings.Contains(message, text) {
					t.Errorf("%q is missing in:\n%s", text, message)
				}
			}
			for _, text := range test.hides {
				if strings.Contains(message, text) {
					t.Errorf("%q is in:\n%s", text, message)
				}
			}
			if words := regexp.MustCompile(`unmarshal|\[\]string|yaml:|jobconfig\.|!!`).FindString(message); words != "" {
				t.Errorf("the user reads %q in:\n%s", words, message)
			}
		})
	}
}

// Events that trigger no task run silently once the integration is subscribed to them: the end of a task, and an
// event of three parts.
func TestEventThatTriggersNothingRunsSilently(t *testing.T) {
	system := start(t, Options{})
	keptn := console.Keptn{Call: system.Call}
	config, err := os.ReadFile("testdata/job-config/24-event-that-is-not-triggered/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config = append(config, []byte(`
- {name: Test, event: sh.keptn.event.test.triggered, image: alpine, cmd: [echo, tested]}
- {name: Note, event: sh.keptn.event.note$, image: alpine, cmd: [sh, -c, "exit 3"]}
`)...)
	if err := keptn.CreateProject(
		t.Context(),
		"observed",
		console.Shipyard("dev", "test"),
		"cart",
		[]string{"dev"},
		map[string][]byte{"job/config.yaml": config},
	); err != nil {
		t.Fatal(err)
	}
	// jobs returns the actions of a context whose Jobs have ended, and their outcome.
	jobs := func(ctx context.Context, keptnContext string) ([]string, error) {
		list, err := system.Cluster.Client(nil).BatchV1().Jobs("").List(ctx, metav1.ListOptions{LabelSelector: run.ContextLabel + "=" + keptnContext})
		if err != nil {
			return nil, err
		}
		var ended []string
		for index := range list.Items {
			ended = append(ended, fmt.Sprintf("%s %s", list.Items[index].Labels[run.ActionLabel], run.PhaseOf(&list.Items[index])))
		}
		slices.Sort(ended)
		return ended, nil
	}
	await := func(keptnContext string, want ...string) {
		t.Helper()
		err := console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
			got, err := jobs(ctx, keptnContext)
			if difference := cmp.Diff(want, got); err == nil && difference != "" {
				err = fmt.Errorf("(-want +got):\n%s", difference)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := keptn.Trigger(t.Context(), "observed", "dev", "pipeline", "cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	await(before, "Test succeeded")
	for _, eventType := range []string{"sh.keptn.event.test.finished", "sh.keptn.event.note"} {
		if err := keptn.Subscribe(t.Context(), "job-executor", eventType); err != nil {
			t.Fatal(err)
		}
	}
	// The bridge learns of the subscriptions from Keptn's next answer. An entry that Keptn's log refuses has no Job.
	var noted string
	err = console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
		if noted, err = keptn.Send(ctx, "sh.keptn.event.note", "observed", "dev", "cart", nil); err != nil {
			return err
		}
		return console.Eventually(ctx, pingInterval, func(ctx context.Context) error {
			got, err := jobs(ctx, noted)
			if err == nil && len(got) == 0 {
				err = errors.New("nothing runs")
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	await(noted, "Note failed")
	after, err := keptn.Trigger(t.Context(), "observed", "dev", "pipeline", "cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	await(after, "A succeeded", "Test succeeded")
	got, _, err := endingOf(t.Context(), keptn, "observed", after)
	if difference := cmp.Diff(ending{"succeeded", []string{"test.started ", "test.finished pass"}}, got); err != nil || difference != "" {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	err = console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
		logged, err := logOf(ctx, keptn, noted)
		if err == nil && !strings.Contains(logged, "Task 'Note' failed: Container task failed (Reason: Error, ExitCode: 3).") {
			err = fmt.Errorf("Keptn's log says %q", logged)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// logOf returns the entries of Keptn's log of the integration about the task of a context.
func logOf(ctx context.Context, keptn console.Keptn, keptnContext string) (string, error) {
	events, err := keptn.Events(ctx, keptnContext)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, event := range events {
		ids = append(ids, event.ID)
	}
	logged, err := keptn.ErrorsOf(ctx, ids...)
	return strings.Join(logged, "\n"), err
}
