package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
)

const (
	stage     = "production"
	service   = "shop"
	flowLimit = 30 * time.Second
)

// ending is the state of a sequence's stage, and our events in Keptn.
type ending struct {
	Stage  string
	Events []string
}

func endingOf(ctx context.Context, keptn console.Keptn, project, keptnContext string) (ending, []console.Event, error) {
	_, stageState, err := keptn.State(ctx, project, keptnContext)
	if err != nil {
		return ending{}, nil, err
	}
	events, err := keptn.Events(ctx, keptnContext)
	if err != nil {
		return ending{}, nil, err
	}
	all := ending{Stage: stageState}
	for _, event := range console.Ours(events) {
		all.Events = append(all.Events, strings.TrimPrefix(event.Type, "sh.keptn.event.")+" "+event.Data.Result)
	}
	return all, console.Ours(events), nil
}

// Whole sequences, from Keptn's event to Keptn's event, with the real functions and
// with containers that are processes.
func TestSequences(t *testing.T) {
	system := start(t, Options{
		Objects: []runtime.Object{&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor-jobs", Name: "credentials", Labels: AllowedLabels()},
			Data:       map[string][]byte{"PASSWORD": []byte("secret")},
		}},
	})
	keptn := console.Keptn{Call: system.Call}
	action := func(event, rest string) string {
		return "apiVersion: v2\nactions:\n  - name: Do it\n    events: [{name: sh.keptn.event." + event + ".triggered}]\n" + rest
	}
	tests := []struct {
		name  string
		tasks []string
		files map[string]string
		abort bool
		want  ending
		says  []string
		jobs  int
	}{
		{
			name: "a task gets its files, its event, a Secret and what Keptn says", tasks: []string{"test"},
			files: map[string]string{"data/greeting.txt": "hello from Git", "job/config.yaml": action("test", `    tasks:
      - name: Greet
        image: busybox
        files: [data]
        cmd: [sh, -c, 'cat /keptn/data/greeting.txt; echo " to $WHO of $KEPTN_PROJECT in $KEPTN_STAGE with ${PASSWORD}, labelled $LABELS_BUILD"']
        env: [{name: WHO, value: "$.data.service", valueFrom: event}, {name: credentials, valueFrom: secret}]
`)},
			want: ending{"succeeded", []string{"test.started ", "test.finished pass"}}, jobs: 1,
			says: []string{"Task 'Greet' finished successfully!", "hello from Git to shop of sequence-0 in production with ***, labelled 17"},
		},
		{
			name:  "the first task that fails ends the run",
			tasks: []string{"deployment"},
			files: map[string]string{"job/config.yaml": action("deployment", `    tasks:
      - {name: First, image: busybox, cmd: [echo], args: [one]}
      - {name: Break, image: busybox, cmd: [sh, -c, "echo what went wrong; exit 3"]}
      - {name: Never, image: busybox, cmd: [echo]}
`)},
			want: ending{"errored", []string{"deployment.started ", "deployment.finished fail"}},
			jobs: 2,
			says: []string{
				"Task 'First' finished successfully!",
				"one",
				"Task 'Break' failed: Container task failed (Reason: Error, ExitCode: 3).",
				"what went wrong",
			},
		},
		{
			name: "a file that does not exist is named", tasks: []string{"release"},
			files: map[string]string{"job/config.yaml": action("release", "    tasks: [{name: Use it, image: busybox, cmd: [echo], files: [nowhere.txt]}]\n")},
			want:  ending{"errored", []string{"release.started ", "release.finished fail"}}, jobs: 1,
			says: []string{"The files of the task could not be fetched.", "could not find file or directory nowhere.txt"},
		},
		{
			name: "a mistake in the configuration is told in a sentence", tasks: []string{"rollback"},
			files: map[string]string{"job/config.yaml": action("rollback", "    task: []\n")},
			want:  ending{"errored", []string{"rollback.started ", "rollback.finished fail"}},
			says:  []string{"job/config.yaml is not valid: line 5, column 5: actions[0].task is not a known key; did you mean tasks?"},
		},
		{
			name: "each task of a sequence is answered, any other by the executor for all others", tasks: []string{"test", "anything"},
			files: map[string]string{"job/config.yaml": action(".*", "    tasks: [{name: Say, image: busybox, cmd: [echo, again]}]\n")},
			want:  ending{"succeeded", []string{"test.started ", "test.finished pass", "anything.started ", "anything.finished pass"}}, jobs: 2,
			says: []string{"again"},
		},
		{
			name: "a task is tried again", tasks: []string{"delivery"},
			files: map[string]string{"job/config.yaml": action("delivery", fmt.Sprintf(`    tasks:
      - {name: Try, image: busybox, retries: 1, cmd: [sh, -c, "if [ -e %[1]s ]; then echo second; else touch %[1]s; echo first; exit 3; fi"]}
`, filepath.Join(t.TempDir(), "tried")))},
			want: ending{"succeeded", []string{"delivery.started ", "delivery.finished pass"}}, jobs: 1, says: []string{"first\n", "second\n"},
		},
		{
			name: "a task says its result", tasks: []string{"evaluation"},
			files: map[string]string{"job/config.yaml": action("evaluation", `    tasks:
      - name: Measure
        image: busybox
        cmd: [sh, -c, 'echo "{\"result\": \"warning\", \"message\": \"3 of 5 are slow\"}" > /dev/termination-log']
`)},
			want: ending{"succeeded", []string{"evaluation.started ", "evaluation.finished warning"}}, jobs: 1, says: []string{"3 of 5 are slow"},
		},
		{
			name: "nothing is said where nothing matches", tasks: []string{"get-sli"}, abort: true,
			files: map[string]string{"job/config.yaml": action("test", "    tasks: [{name: Say, image: busybox, cmd: [echo]}]\n")},
			want:  ending{"aborted", nil},
		},
		{
			name: "an abort takes the Job away, and nothing more is said", tasks: []string{"action"}, abort: true,
			files: map[string]string{"job/config.yaml": action("action", "    tasks: [{name: Wait, image: busybox, cmd: [sleep, '300']}]\n")},
			want:  ending{"aborted", []string{"action.started "}},
		},
	}
	for index, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			project := fmt.Sprintf("sequence-%d", index)
			files := map[string][]byte{}
			for path, content := range test.files {
				files[path] = []byte(content)
			}
			if err := keptn.CreateProject(t.Context(), project, console.Shipyard("production", test.tasks...), service, []string{stage}, files); err != nil {
				t.Fatal(err)
			}
			keptnContext, err := keptn.Trigger(t.Context(), project, stage, "pipeline", service, map[string]any{"labels": map[string]string{"build": "17"}})
			if err != nil {
				t.Fatal(err)
			}
			if test.abort {
				awaitTaken(t, system, keptn, project, keptnContext, len(test.want.Events) > 0)
				if err := keptn.Abort(t.Context(), project, keptnContext); err != nil {
					t.Fatal(err)
				}
			}
			var events []console.Event
			err = console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
				var got ending
				if got, events, err = endingOf(ctx, keptn, project, keptnContext); err != nil {
					return err
				}
				jobs, err := system.Cluster.Client(nil).BatchV1().Jobs("").List(ctx, metav1.ListOptions{LabelSelector: run.ContextLabel + "=" + keptnContext})
				if err != nil {
					return err
				}
				if difference := cmp.Diff(test.want, got); difference != "" || len(jobs.Items) != test.jobs {
					return fmt.Errorf("%d Jobs, want %d; Keptn was told (-want +got):\n%s", len(jobs.Items), test.jobs, difference)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range test.says {
				if message := events[len(events)-1].Data.Message; !strings.Contains(message, text) {
					t.Errorf("%q is missing in:\n%s", text, message)
				}
			}
		})
	}
}

// start starts a system that ends with the test.
func start(t *testing.T, options Options) *System {
	t.Helper()
	options.Directory, options.Manifests, options.Log = t.TempDir(), "../../config", slog.DiscardHandler
	system, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { system.Close(t.Context()) })
	return system
}

// awaitTaken waits until an executor has seen the event of a context. If the event has an action, it also waits
// for a running container and for Keptn's started event.
func awaitTaken(t *testing.T, system *System, keptn console.Keptn, project, keptnContext string, runs bool) {
	t.Helper()
	err := console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
		if runs {
			pods, err := system.Cluster.Client(nil).CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			if err == nil && !slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool {
				return pod.Status.Phase == corev1.PodRunning && slices.Contains(pod.Spec.Containers[0].Command, "sleep")
			}) {
				err = errors.New("no container runs")
			}
			if err != nil {
				return err
			}
			counted, err := keptn.Counted(ctx, project, keptnContext)
			if err == nil && counted == 0 {
				err = errors.New("Keptn does not know that it was started")
			}
			if err != nil {
				return err
			}
		}
		processed := map[string]bool{}
		for _, span := range system.Spans.GetSpans() {
			if name, ok := strings.CutPrefix(span.Name, "process "); ok && span.SpanContext.TraceID().String() == console.TraceID(keptnContext) {
				processed[name[strings.LastIndex(name, ".")+1:]] = true
			}
		}
		switch {
		case !processed["triggered"]:
			return errors.New("no executor has a span")
		case runs && !processed["started"]:
			return errors.New("the bridge is not done with the started event, and would see an abort at once")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
