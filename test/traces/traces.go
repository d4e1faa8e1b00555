package traces

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
)

// attributesOfATask are the attributes of the spans of a sequence with one task, whose Job fetches a file.
//
//go:embed attributes.txt
var attributesOfATask string

// System runs sequences and has their traces.
type System struct {
	console.Keptn

	// Trace returns the spans of a trace, of our functions only.
	Trace func(ctx context.Context, traceID string) ([]console.Span, error)
	// Kubernetes is the cluster with the Jobs.
	Kubernetes kubernetes.Interface
	// ReplaceBridge stops the bridge, and another one starts. It is nil if another system tests a new bridge.
	ReplaceBridge func(ctx context.Context) error
	// Limit bounds the time until a trace is complete.
	Limit time.Duration
}

const (
	service = "cart"
	image   = "busybox"
)

// question is a question that a trace answers.
type question struct {
	name     string
	shipyard string
	// stages are the stages of the shipyard. The sequence of the first one is triggered.
	stages   []string
	sequence string
	config   string
	files    map[string]string
	// during is called while the task runs.
	during func(ctx context.Context, system System, project, keptnContext string) error
	// want is the outline, with PROJECT for the project's name.
	want string
}

// Sent is the part of an outline from a task's event to the Jobs.
func Sent(task string) string {
	return received(task, `
        CONSUMER bridge process TASK.started
          PRODUCER bridge send TASK.started
        INTERNAL executor create Jobs`)
}

// Skipped is the part of an outline for a task without matching actions.
func Skipped(task string) string {
	return received(task, `
        CONSUMER bridge process log.error`)
}

// received is the part of an outline in which an executor receives a task's event, reads the file and answers.
func received(task, answer string) string {
	return strings.ReplaceAll(`
    PRODUCER bridge send TASK.triggered
      CONSUMER executor process TASK.triggered`+answer+`
        INTERNAL executor read job/config.yaml`, "TASK", task)
}

// Completed is the part of an outline from the last Job to Keptn.
func Completed(task string) string {
	return strings.ReplaceAll(`
    PRODUCER jobsource send job.completed
      CONSUMER watcher process job.completed
        CONSUMER bridge process TASK.finished
          PRODUCER bridge send TASK.finished
        INTERNAL watcher read logs`, "TASK", task)
}

// Job is the part of an outline about a Job with one attempt. Failure is empty on success.
func Job(name, result, failure string, phases ...string) string {
	mark := ""
	if failure != "" {
		mark = " ! " + failure
	}
	text := "\n    INTERNAL jobs " + name + " = " + result + mark
	if len(phases) == 0 {
		phases = []string{"finalizing", "pending", "run" + mark}
	}
	for _, phase := range phases {
		text += "\n      INTERNAL jobs " + phase
	}
	return text
}

// withFiles are the phases of a Job that fetches files.
func withFiles() []string {
	return []string{"fetch files", "finalizing", "pending", "run", "starting"}
}

const exit3 = "Container task failed (Reason: Error, ExitCode: 3)."

func abort(ctx context.Context, system System, project, keptnContext string) error {
	return system.Abort(ctx, project, keptnContext)
}

func questions() []question {
	const success, failure = "SERVER bridge RUN PROJECT/dev/cart pipeline = success\n", "SERVER bridge RUN PROJECT/dev/cart pipeline = failure ! "
	action := func(rest string) string {
		return "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: " + image + ", " + rest + "}\n"
	}
	const mistakes = `job/config.yaml is not valid: 2 mistakes:
- line 3, column 36: actions[0].imag is not a known key; did you mean image?
- line 3, column 51: actions[0].parallell is not a known key; did you mean parallel?`
	return []question{
		{
			name: "which project, service and sequence is it, and where did the time go", files: map[string]string{"a.txt": "a"},
			config: "apiVersion: v2\nactions:\n- {name: Greet, event: test.triggered, image: busybox, cmd: [cat, /keptn/a.txt], files: [a.txt]}\n",
			want: success + `  INTERNAL bridge test = success
    INTERNAL jobs Greet = success
      INTERNAL fetcher read a.txt` + strings.TrimPrefix(Job("Greet", "success", "", withFiles()...), "\n    INTERNAL jobs Greet = success") +
				Sent("test") + Completed("test"),
		},
		{
			name:   "which reason did the failing task report",
			config: action(`cmd: [sh, -c, 'echo ''{"result": "fail", "message": "p95 is 900 ms"}'' > /dev/termination-log']`),
			want: failure + "Task 'A' failed: The task reported the result fail.\np95 is 900 ms\n  INTERNAL bridge test = failure ! Task 'A' failed: The task reported the result fail.\np95 is 900 ms" +
				Job("A", "failure", "The task reported the result fail.\np95 is 900 ms") + Sent("test") + Completed("test"),
		},
		{
			name:   "which container failed",
			config: action("cmd: [sh, -c, exit 3]"),
			want: failure + "Task 'A' failed: " + exit3 + "\n  INTERNAL bridge test = failure ! Task 'A' failed: " + exit3 +
				Job("A", "failure", exit3) + Sent("test") + Completed("test"),
		},
		{
			name:   "which mistakes does the file have",
			config: "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, imag: busybox, parallell: true}\n",
			want: failure + mistakes + "\n  INTERNAL bridge test = error ! " + mistakes + received("test", `
        CONSUMER bridge process TASK.finished
          PRODUCER bridge send TASK.finished
          PRODUCER bridge send TASK.started`) + " ! " + mistakes,
		},
		{
			name:   "which attempt was it",
			config: action("cmd: [sh, -c, exit 3], retries: 2"),
			want: failure + "Task 'A' failed: " + exit3 + "\n  INTERNAL bridge test = failure ! Task 'A' failed: " + exit3 + "\n    INTERNAL jobs A = failure ! " + exit3 + strings.Repeat(`
      INTERNAL jobs attempt N ! `+exit3+`
        INTERNAL jobs pending
        INTERNAL jobs run ! `+exit3, 3) + "\n      INTERNAL jobs back-off\n      INTERNAL jobs finalizing" + Sent("test") + Completed("test"),
		},
		{
			name: "which of the parallel tasks failed",
			config: "apiVersion: v2\nactions:\n- name: A\n  event: test.triggered\n  parallel: true\n  tasks:\n" +
				"  - {name: one, image: busybox, cmd: [sh, -c, exit 3]}\n  - {name: two, image: busybox, cmd: ['true']}\n",
			want: failure + "Task 'one' failed: " + exit3 + "\nTask 'two' finished successfully!\n  INTERNAL bridge test = failure ! Task 'one' failed: " + exit3 + "\nTask 'two' finished successfully!" +
				Job("one", "failure", exit3) + Job("two", "success", "", "finalizing", "pending", "queued", "run") + Sent("test") + Completed("test"),
		},
		{
			name:   "what ran when the sequence was aborted",
			config: action("cmd: [sleep, '100']"),
			during: abort,
			want: "SERVER bridge RUN PROJECT/dev/cart pipeline (aborted) = cancellation\n  INTERNAL bridge test = cancellation" +
				Job("A", "cancellation", "", "pending", "run") + `
    PRODUCER bridge send run.cancelled
      CONSUMER watcher process run.cancelled
        CONSUMER bridge process log.error` + Sent("test"),
		},
		{
			name:   "which limit was exceeded",
			config: action("cmd: [sleep, '100'], maxPollDuration: 1"),
			want: failure + "Task 'A' failed: The task did not finish within 1 seconds (maxPollDuration).\n" +
				"  INTERNAL bridge test = timeout ! Task 'A' failed: The task did not finish within 1 seconds (maxPollDuration)." +
				Job("A", "timeout", "The task did not finish within 1 seconds (maxPollDuration).") + Sent("test") + Completed("test"),
		},
		{
			name:   "why does nothing run",
			config: "apiVersion: v2\nactions:\n- {name: A, event: release.triggered, image: busybox}\n",
			during: abort,
			want:   "SERVER bridge RUN PROJECT/dev/cart pipeline (aborted) = cancellation\n  INTERNAL bridge test = skip" + Skipped("test"),
		},
		{
			name:   "does it continue after the bridge was replaced",
			config: action("cmd: [sleep, '4']"),
			during: func(ctx context.Context, system System, _, _ string) error { return system.ReplaceBridge(ctx) },
			want:   success + "  INTERNAL bridge test = success" + Job("A", "success", "") + Sent("test") + Completed("test"),
		},
		{
			name: "which stage and task of a delivery is it", stages: []string{"dev", "prod"}, sequence: "delivery",
			shipyard: `apiVersion: spec.keptn.sh/0.2.2
kind: Shipyard
metadata: {name: shipyard}
spec:
  stages:
  - {name: dev, sequences: [{name: delivery, tasks: [{name: deployment}, {name: test}]}]}
  - {name: prod, sequences: [{name: delivery, triggeredOn: [{event: dev.delivery.finished}], tasks: [{name: deployment}]}]}
`,
			config: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: deployment.triggered}, {name: test.triggered}]\n  tasks: [{name: A, image: busybox, cmd: ['true']}]\n",
			want: "SERVER bridge RUN PROJECT/dev/cart delivery = success\n" +
				"  INTERNAL bridge deployment = success" + Job("A", "success", "") + Sent("deployment") + Completed("deployment") +
				"\n  INTERNAL bridge test = success" + Job("A", "success", "") + Sent("test") + Completed("test") +
				"\nSERVER bridge RUN PROJECT/prod/cart delivery = success\n" +
				"  INTERNAL bridge deployment = success" + Job("A", "success", "") + Sent("deployment") + Completed("deployment"),
		},
	}
}

// Test asks a system all questions. Questions that change the system for others run alone.
func Test(t *testing.T, system System) {
	for _, isAlone := range []bool{false, true} {
		t.Run(map[bool]string{false: "at the same time", true: "alone"}[isAlone], func(t *testing.T) {
			for _, asked := range questions() {
				isReplaced := strings.Contains(asked.name, "replaced")
				if isAlone != isReplaced || isReplaced && system.ReplaceBridge == nil {
					continue
				}
				t.Run(asked.name, func(t *testing.T) {
					if !isAlone {
						t.Parallel()
					}
					ask(t, system, asked)
				})
			}
		})
	}
}

func ask(t *testing.T, system System, asked question) {
	t.Helper()
	project, files := "traced-"+uuid.NewString()[:8], map[string][]byte{"job/config.yaml": []byte(asked.config)}
	for path, content := range asked.files {
		files[path] = []byte(content)
	}
	stages, sequence, shipyard := asked.stages, asked.sequence, asked.shipyard
	if shipyard == "" {
		stages, sequence, shipyard = []string{"dev"}, "pipeline", console.Shipyard("dev", "test")
	}
	if err := system.CreateProject(t.Context(), project, shipyard, service, stages, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := system.Trigger(t.Context(), project, stages[0], sequence, service, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("project %s, Keptn context %s", project, keptnContext)
	if asked.during != nil {
		if err := system.awaitRunning(t.Context(), keptnContext, strings.Contains(asked.want, "create Jobs")); err != nil {
			t.Fatal(err)
		}
		if err := asked.during(t.Context(), system, project, keptnContext); err != nil {
			t.Fatal(err)
		}
	}
	spans := system.Await(t, keptnContext, strings.ReplaceAll(asked.want, "PROJECT", project))
	if asked.files != nil {
		const most, deepest = 24, 9
		if depth := console.Depth(spans); len(spans) > most || depth > deepest {
			t.Errorf("a task with one Job has %d spans, %d deep", len(spans), depth)
		}
		if difference := cmp.Diff(attributesOfATask, strings.ReplaceAll(console.Attributes(withoutColdStarts(spans)), project, "PROJECT")); difference != "" {
			t.Errorf("attributes (-want +got):\n%s", difference)
		}
	}
	checkOrder(t, spans)
}

// withoutColdStarts leaves out cold starts: another event may have started a function.
func withoutColdStarts(spans []console.Span) []console.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(span console.Span) bool { return span.Name == "cold start" })
}

// Await waits until the outline of a context's trace is the wanted one, and returns the spans. The outline
// leaves out cold starts and the numbers of attempts.
func (s System) Await(t *testing.T, keptnContext, want string) []console.Span {
	t.Helper()
	var spans []console.Span
	err := console.Eventually(t.Context(), s.Limit, func(ctx context.Context) (err error) {
		spans, err = s.Trace(ctx, console.TraceID(keptnContext))
		if err != nil {
			return err
		}
		compared := withoutColdStarts(spans)
		adoptStarted(compared)
		outline := console.Outline(compared)
		for number := range 9 {
			outline = strings.ReplaceAll(outline, fmt.Sprintf(" attempt %d", number+1), " attempt N")
		}
		if difference := cmp.Diff(want+"\n", outline); difference != "" {
			return errors.New("(-want +got):\n" + difference)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return spans
}

// adoptStarted puts the sending of started events below the processing of the executors' answers. If the executor's
// answer is slow, the bridge sends the event when jobsource announces the run, and so directly below the task.
func adoptStarted(spans []console.Span) {
	parents := map[string]string{}
	for _, span := range spans {
		parents[span.ID] = span.ParentID
	}
	for index := range spans {
		sent, ok := strings.CutPrefix(spans[index].Name, "send ")
		if !ok || !strings.HasSuffix(sent, ".started") {
			continue
		}
		isAnswer := func(span console.Span) bool {
			// The answer is below the executor's span, and that is below the sending of the triggered event.
			return span.Name == "process "+sent && parents[parents[parents[span.ID]]] == spans[index].ParentID
		}
		if answer := slices.IndexFunc(spans, isAnswer); answer >= 0 {
			spans[index].ParentID = spans[answer].ID
		}
	}
}

// awaitRunning waits until a task's container runs and the bridge has sent its started event, or, if nothing
// runs, the reason.
func (s System) awaitRunning(ctx context.Context, keptnContext string, runs bool) error {
	wanted := "process log.error"
	if runs {
		wanted = "process test.started"
	}
	return console.Eventually(ctx, s.Limit, func(ctx context.Context) error {
		spans, err := s.Trace(ctx, console.TraceID(keptnContext))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(spans, func(span console.Span) bool { return span.Name == wanted }) {
			return fmt.Errorf("span %q is missing", wanted)
		}
		if !runs {
			return nil
		}
		pods, err := s.Kubernetes.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: run.ContextLabel + "=" + keptnContext})
		if err == nil && !slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }) {
			err = errors.New("no container runs")
		}
		return err
	})
}

// checkOrder checks that no span begins before its parent, and that all Jobs begin at different times.
func checkOrder(t *testing.T, spans []console.Span) {
	t.Helper()
	byID := map[string]console.Span{}
	for _, span := range spans {
		byID[span.ID] = span
	}
	for _, span := range spans {
		if parent, ok := byID[span.ParentID]; ok && span.Start.Before(parent.Start) {
			t.Errorf("%s begins %s before %s", span.Name, parent.Start.Sub(span.Start), parent.Name)
		}
	}
}
