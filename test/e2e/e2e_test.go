//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
	"github.com/job-executor/job-executor/test/traces"
)

const (
	installLimit = 45 * time.Minute // the first time everything is compiled, perhaps on a busy machine
	runLimit     = 7 * time.Minute
	zeroLimit    = 4 * time.Minute
	stage        = "production"
	service      = "shop"
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := installAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func installAndRun(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), installLimit)
	defer cancel()
	installed, err := system.Connect()
	if err != nil {
		return 0, err
	}
	if needsPrometheus(flag.Lookup("test.run").Value.String()) {
		stop, err := startPrometheus(ctx, installed)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err := installed.Install(ctx, func(step string) { fmt.Println("e2e:", step) }); err != nil {
		return 0, err
	}
	// A killed run may have left faults.
	if _, err := installed.SetFaults(ctx, 0, 0); err != nil {
		return 0, err
	}
	if isAuthenticated(true, false) {
		fmt.Println("e2e: Knative authenticates who sends (config/authentication)")
		if err := installed.Authenticate(ctx, true); err != nil {
			return 0, err
		}
	}
	if code := m.Run(); code != 0 {
		return code, nil
	}
	return 0, afterwards(installed)
}

// afterwards checks all output of the tests for secrets, and that together they used every right.
func afterwards(installed *system.Installation) error {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	leaks, err := installed.Leaks(ctx)
	if err != nil {
		return err
	}
	if len(leaks) > 0 {
		return fmt.Errorf("secrets in the output:\n%s", strings.Join(leaks, "\n"))
	}
	fmt.Println("e2e: no output contains a secret")
	if flag.Lookup("test.run").Value.String() != "" {
		fmt.Println("e2e: rights not checked: not all tests ran")
		return nil
	}
	unused, err := installed.UnusedRights()
	if err != nil {
		return err
	}
	// Rare events need these rights: Kubernetes refuses a run halfway, two deliveries create the same Job at
	// once, and a privileged task meets a namespace without a level. Tests of the executor cover them.
	seldom := []string{
		"job-executor:executor may delete jobs in job-executor-jobs", "job-executor:executor may get jobs in job-executor-jobs",
		"job-executor:executor may get namespaces in job-executor-jobs",
	}
	unused = slices.DeleteFunc(unused, func(right string) bool { return slices.Contains(seldom, right) })
	if len(unused) > 0 {
		return fmt.Errorf("unused rights:\n%s", strings.Join(unused, "\n"))
	}
	fmt.Println("e2e: all rights in config/200-accounts.yaml were used, except those for rare events")
	return nil
}

func connect(t *testing.T) *system.Installation {
	t.Helper()
	connected, err := system.Connect()
	must(t, err)
	return connected
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begin creates a project of its own and triggers its sequence.
func begin(t *testing.T, installed *system.Installation, tasks []string, files map[string]string) (project, keptnContext string) {
	t.Helper()
	project = createProject(t, installed, tasks, files)
	keptnContext = trigger(t, installed, project)
	t.Logf("project %s, Keptn context %s", project, keptnContext)
	return project, keptnContext
}

// greet runs the sequence of greeting until it has succeeded. Over HTTP, a new bridge holds the first events back until its
// predecessor's would be counted. It sends them late, and so elsewhere in the tree of the trace. Greet once before you compare trees.
func greet(t *testing.T, installed *system.Installation) (project, keptnContext string) {
	t.Helper()
	project, keptnContext = begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello\n"})
	succeeds(t, installed, project, keptnContext)
	return project, keptnContext
}

// createProject creates a project with one sequence of tasks.
func createProject(t *testing.T, installed *system.Installation, tasks []string, files map[string]string) (project string) {
	t.Helper()
	contents := map[string][]byte{}
	for path, content := range files {
		contents[path] = []byte(content)
	}
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		// If the API server fails halfway, try again under another name.
		project = "e2e-" + uuid.NewString()[:8]
		return installed.CreateProject(ctx, project, console.Shipyard(stage, tasks...), service, []string{stage}, contents)
	}))
	return project
}

// trigger triggers a project's sequence.
func trigger(t *testing.T, installed *system.Installation, project string) (keptnContext string) {
	t.Helper()
	return triggerWith(t, installed, project, map[string]any{"labels": map[string]string{"build": "17"}})
}

func triggerWith(t *testing.T, installed *system.Installation, project string, data map[string]any) (keptnContext string) {
	t.Helper()
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) (err error) {
		keptnContext, err = installed.Trigger(ctx, project, stage, "pipeline", service, data)
		return err
	}))
	return keptnContext
}

// end waits until the sequence is over and returns how, with our events.
func end(t *testing.T, installed *system.Installation, project, keptnContext string) (string, []console.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	return endWithin(ctx, t, installed, project, keptnContext)
}

func endWithin(ctx context.Context, t *testing.T, installed *system.Installation, project, keptnContext string) (string, []console.Event) {
	t.Helper()
	stageState, err := finishes(ctx, installed, project, keptnContext)
	must(t, err)
	events, err := installed.Events(ctx, keptnContext)
	must(t, err)
	return stageState, console.Ours(events)
}

// finishes waits until a sequence is over, and returns the state of its stage.
func finishes(ctx context.Context, installed *system.Installation, project, keptnContext string) (stageState string, err error) {
	deadline, _ := ctx.Deadline()
	err = console.Eventually(ctx, time.Until(deadline), func(ctx context.Context) error {
		state, reached, err := installed.State(ctx, project, keptnContext)
		if err == nil && state != "finished" {
			err = fmt.Errorf("the sequence is %q", state)
		}
		stageState = reached
		return err
	})
	return stageState, err
}

// succeeds waits until a sequence of one test has succeeded, and returns our events.
func succeeds(t *testing.T, installed *system.Installation, project, keptnContext string) []console.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	return succeedsWithin(ctx, t, installed, project, keptnContext)
}

func succeedsWithin(ctx context.Context, t *testing.T, installed *system.Installation, project, keptnContext string) []console.Event {
	t.Helper()
	stageState, events := endWithin(ctx, t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	compare(t, "events", []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
	return events
}

// afterTest runs a cleanup when a test has ended.
func afterTest(t *testing.T, restore func(ctx context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runLimit)
		defer cancel()
		if err := restore(ctx); err != nil {
			t.Error(err)
		}
	})
}

// triggeredEvent waits until Keptn has triggered a task.
func triggeredEvent(t *testing.T, installed *system.Installation, keptnContext, task string) console.Event {
	t.Helper()
	var triggered console.Event
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		events, err := installed.Events(ctx, keptnContext)
		if err != nil {
			return err
		}
		for _, event := range events {
			if event.Type == "sh.keptn.event."+task+".triggered" {
				triggered = event
				return nil
			}
		}
		return errors.New("the task is not triggered yet")
	}))
	return triggered
}

type summary struct{ Type, Status, Result string }

func summaries(events []console.Event) []summary {
	var all []summary
	for _, event := range events {
		all = append(all, summary{strings.TrimPrefix(event.Type, "sh.keptn.event."), event.Data.Status, event.Data.Result})
	}
	return all
}

func compare(t *testing.T, what string, want, got any) {
	t.Helper()
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("%s (-want +got):\n%s", what, difference)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

const greeting = `apiVersion: v2
actions:
  - name: Greet
    events:
      - name: sh.keptn.event.test.triggered
    tasks:
      - name: Say hello
        files: [greeting]
        image: busybox
        cmd: [sh, -c]
        args: ['cat /keptn/greeting/hello.txt; echo "to $WHO, build $LABELS_BUILD of $KEPTN_PROJECT"']
        env: [{name: WHO, value: "$.data.service", valueFrom: event}]
`

func TestTaskRunsFromZeroToZero(t *testing.T) {
	installed := connect(t)
	must(t, installed.WaitForZero(t.Context(), zeroLimit, "executor-test", "watcher"))
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello from Git\n"})
	events := succeeds(t, installed, project, keptnContext)
	if len(events) == 2 {
		contains(t, events[1].Data.Message, "Task 'Say hello' finished successfully!", "hello from Git", "to shop, build 17 of "+project)
		if events[1].Data.Test["start"] == nil || events[1].Data.Test["end"] == nil {
			t.Errorf("the finished event of a test has start and end, not %v", events[1].Data.Test)
		}
	}
	t.Run("its trace shows what waited for a function to start", func(t *testing.T) {
		spans := traced(t, installed, keptnContext, greetingTree(project))
		if !slices.ContainsFunc(spans, func(span console.Span) bool { return span.Name == "cold start" }) {
			t.Error("nothing waited, though all functions had scaled to zero")
		}
		compareTimes(t, installed, keptnContext, spans)
		followed, err := installed.Follow(t.Context(), events[len(events)-1].Data.Labels["trace"])
		must(t, err)
		compare(t, "where the finished event's link leads", console.Outline(spans), console.Outline(jaeger.OfOurs(followed)))
	})
	t.Run("the Job expires only after it was reported", func(t *testing.T) {
		must(t, console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
			jobs, err := installed.Jobs(ctx, keptnContext)
			if err != nil {
				return err
			}
			if len(jobs) != 1 || !run.IsReported(&jobs[0]) || jobs[0].Spec.TTLSecondsAfterFinished == nil {
				return errors.New("the Job is not marked, or has no time to live")
			}
			return nil
		}))
	})
	must(t, installed.WaitForZero(t.Context(), zeroLimit, "executor-test", "watcher"))
}

// treeOf is the outline of a sequence with one task.
func treeOf(project, task, result, failure, below string) string {
	ofSequence, ofTask := "success", result
	switch result {
	case "failure", "error", "timeout":
		ofSequence = "failure"
	}
	if failure != "" {
		ofSequence, ofTask = ofSequence+" ! "+failure, ofTask+" ! "+failure
	}
	return "SERVER bridge RUN " + project + "/" + stage + "/" + service + " pipeline = " + ofSequence + "\n  INTERNAL bridge " + task + " = " + ofTask + below
}

// greetingTree is the outline of the trace of a sequence with the task greeting.
func greetingTree(project string) string {
	job := traces.Job("Say hello", "success", "", "fetch files", "finalizing", "pending", "run", "starting")
	job = strings.Replace(job, "\n      INTERNAL jobs fetch files", "\n      INTERNAL fetcher read greeting\n      INTERNAL jobs fetch files", 1)
	return treeOf(project, "test", "success", "", job+traces.Sent("test")+traces.Completed("test"))
}

// The tree of our functions is the same within Knative's own spans: Knative passes the trace on.
func TestTreeIsTheSameWithKnativesSpans(t *testing.T) {
	installed := connect(t)
	afterTest(t, func(ctx context.Context) error { return installed.TraceKnative(ctx, false) })
	must(t, installed.TraceKnative(t.Context(), true))
	must(t, installed.WaitForZero(t.Context(), zeroLimit, "executor-test", "watcher"))
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello from Git\n"})
	end(t, installed, project, keptnContext)
	ours := traced(t, installed, keptnContext, greetingTree(project))
	all, err := installed.Trace(t.Context(), console.TraceID(keptnContext))
	must(t, err)
	if len(all) < 2*len(ours) {
		t.Errorf("of %d spans %d are ours: Knative writes none", len(all), len(ours))
	}
}

// compareTimes compares the spans of a context's only Job with Kubernetes' times.
func compareTimes(t *testing.T, installed *system.Installation, keptnContext string, spans []console.Span) {
	t.Helper()
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	ofJob := metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobs[0].Name}
	pods, err := installed.Kubernetes.CoreV1().Pods(jobs[0].Namespace).List(t.Context(), ofJob)
	must(t, err)
	container := pods.Items[0].Status.ContainerStatuses[0].State.Terminated
	fetch := pods.Items[0].Status.InitContainerStatuses[0].State.Terminated
	for name, real := range map[string][2]metav1.Time{
		"Say hello": {jobs[0].CreationTimestamp, *jobs[0].Status.CompletionTime}, "pending": {*jobs[0].Status.StartTime, fetch.StartedAt},
		"fetch files": {fetch.StartedAt, fetch.FinishedAt}, "run": {container.StartedAt, container.FinishedAt},
	} {
		for _, span := range spans {
			if span.Name != name {
				continue
			}
			for _, off := range []time.Duration{span.Start.Sub(real[0].Time), span.Start.Add(span.Duration).Sub(real[1].Time)} {
				if off.Abs() > time.Second {
					t.Errorf("%s is from %s for %s, and not from %s to %s", name, span.Start, span.Duration, real[0], real[1])
				}
			}
		}
	}
}

// tracesOf returns the installation for the questions of package traces.
func tracesOf(installed *system.Installation) traces.System {
	return traces.System{
		Keptn: installed.Keptn, Kubernetes: installed.Kubernetes, Limit: runLimit,
		Trace: func(ctx context.Context, traceID string) ([]console.Span, error) {
			all, err := installed.Trace(ctx, traceID)
			return jaeger.OfOurs(all), err
		},
		ReplaceBridge: func(ctx context.Context) error { return installed.Kill(ctx, "app.kubernetes.io/name=bridge") },
	}
}

// traced waits until the outline of a context's trace in Jaeger is the wanted one, and returns its spans, without
// warnings of Jaeger.
func traced(t *testing.T, installed *system.Installation, keptnContext, want string) []console.Span {
	t.Helper()
	spans := tracesOf(installed).Await(t, keptnContext, want)
	for _, span := range spans {
		// On a busy machine the Broker repeats a slow delivery, and the same spans are written again.
		isRepeated := func(warning string) bool { return strings.HasPrefix(warning, "duplicate span IDs") }
		if warnings := slices.DeleteFunc(slices.Clone(span.Warnings), isRepeated); len(warnings) > 0 {
			t.Errorf("Jaeger's warnings about %s: %v", span.Name, warnings)
		}
	}
	return spans
}

func TestFailingContainerEndsTheTaskWithItsLog(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"deployment"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: Break, image: busybox, cmd: [sh, -c], args: ['echo what went wrong; exit 3']}
      - {name: Never, image: busybox, cmd: ["true"]}
`})
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "errored", stageState)
	compare(t, "events", []summary{{Type: "deployment.started"}, {"deployment.finished", "errored", "fail"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "Task 'Break' failed", "ExitCode: 3", "what went wrong")
	must(t, console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && len(jobs) != 1 {
			err = fmt.Errorf("there are %d Jobs; the one that never ran is to be deleted", len(jobs))
		}
		return err
	}))
	const failure = "Container task failed (Reason: Error, ExitCode: 3)."
	traced(t, installed, keptnContext, treeOf(project, "deployment", "failure", "Task 'Break' failed: "+failure,
		traces.Job("Break", "failure", failure)+traces.Sent("deployment")+traces.Completed("deployment")))
}

// A program in a user's container finds the environment for a span below its Job's.
func TestSpanOfAProgramIsBelowItsJob(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"deployment"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Load
    event: deployment.triggered
    image: busybox
    cmd: [sh, -ec]
    args:
      - |
        IFS=- read -r version trace parent flags <<END
        $TRACEPARENT
        END
        sleep 2 # the span must be within the Job's whole seconds
        now=$(($(date +%s) - 1))
        wget -q -O - --header 'Content-Type: application/json' --post-data '{"resourceSpans": [{
          "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "'"$OTEL_SERVICE_NAME"'"}}]},
          "scopeSpans": [{"spans": [{"traceId": "'$trace'", "spanId": "00000000000000ab", "parentSpanId": "'$parent'", "name": "work", "kind": 1,
            "startTimeUnixNano": "'$now'000000000", "endTimeUnixNano": "'$now'000000001"}]}]
        }]}' "$OTEL_EXPORTER_OTLP_ENDPOINT/v1/traces"
`})
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	must(t, console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
		spans, err := installed.Trace(ctx, console.TraceID(keptnContext))
		if err != nil {
			return err
		}
		for _, span := range spans {
			if span.Name != "work" {
				continue
			}
			above := slices.IndexFunc(spans, func(above console.Span) bool { return above.ID == span.ParentID })
			if above < 0 || spans[above].Service != "job-executor-jobs" || spans[above].Name != "Load" || span.Service != "Load" || len(span.Warnings) > 0 {
				return fmt.Errorf("the program's span is %+v, in %+v", span, spans)
			}
			return nil
		}
		return fmt.Errorf("the program's span is missing; it printed %s", events[len(events)-1].Data.Message)
	}))
}

// Two tasks of a sequence are one tree. The second task has two Jobs: one waits for the other, and fails.
func TestTasksOfASequenceAreOneTree(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"deployment", "test"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - {name: Deploy, event: deployment.triggered, image: busybox, cmd: ["true"]}
  - name: Check
    events: [{name: sh.keptn.event.test.triggered}]
    tasks:
      - {name: One, image: busybox, cmd: ["true"]}
      - {name: Two, image: busybox, cmd: [sh, -c], args: ['exit 4']}
`})
	end(t, installed, project, keptnContext)
	const failure = "Container task failed (Reason: Error, ExitCode: 4)."
	const message = "Task 'Two' failed: " + failure + "\nTask 'One' finished successfully!"
	traced(t, installed, keptnContext, "SERVER bridge RUN "+project+"/production/shop pipeline = failure ! "+message+
		"\n  INTERNAL bridge deployment = success"+traces.Job("Deploy", "success", "")+traces.Sent("deployment")+traces.Completed("deployment")+
		"\n  INTERNAL bridge test = failure ! "+message+traces.Job("One", "success", "")+
		traces.Job("Two", "failure", failure, "finalizing", "pending", "queued", "run ! "+failure)+traces.Sent("test")+traces.Completed("test"))
}

func TestMissingFileEndsTheTaskWithItsName(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"rollback"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Back
    events: [{name: sh.keptn.event.rollback.triggered}]
    tasks: [{name: Roll back, image: busybox, cmd: ["true"], files: [nowhere.txt]}]
`})
	_, events := end(t, installed, project, keptnContext)
	compare(t, "events", []summary{{Type: "rollback.started"}, {"rollback.finished", "errored", "fail"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "The files of the task could not be fetched.", "could not find file or directory nowhere.txt")
}

func TestMalformedConfigurationIsReportedInASentence(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(
		t,
		installed,
		[]string{"release"},
		map[string]string{"job/config.yaml": "apiVersion: v2\nactions:\n  - event: release\n    imag: busybox\n"},
	)
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "errored", stageState)
	compare(t, "events", []summary{{Type: "release.started"}, {"release.finished", "errored", "fail"}}, summaries(events))
	const mistake = "job/config.yaml is not valid: line 4, column 5: actions[0].imag is not a known key; did you mean image?"
	compare(t, "message", mistake, events[len(events)-1].Data.Message)
	// The error is also on Keptn's page of the integration.
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		logged, err := installed.ErrorsOf(ctx, events[len(events)-1].TriggeredID)
		if difference := cmp.Diff([]string{mistake}, logged); err == nil && difference != "" {
			err = fmt.Errorf("Keptn's log (-want +got):\n%s", difference)
		}
		return err
	}))
}

func TestTasksOfAnActionRunOneAfterTheOther(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"action"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Remedy
    events: [{name: sh.keptn.event.action.triggered}]
    tasks:
      - {name: first, image: busybox, cmd: [sh, -c], args: ['sleep 2; echo one']}
      - {name: second, image: busybox, cmd: [echo], args: [two]}
`})
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	compare(t, "events", []summary{{Type: "action.started"}, {"action.finished", "succeeded", "pass"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "Task 'first' finished successfully!", "one", "Task 'second' finished successfully!", "two")
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	if len(jobs) != 2 {
		t.Fatalf("there are %d Jobs, not 2", len(jobs))
	}
	if finished, started := run.FinishedAt(&jobs[0]), jobs[1].Status.StartTime.Time; started.Before(finished) {
		t.Errorf("the second Job started at %s, before the first had finished at %s", started, finished)
	}
}

// While a project has its maximum of active runs, further runs wait. Each begins when another one has ended.
func TestRunsOfAProjectWaitForTheirTurn(t *testing.T) {
	installed := connect(t)
	afterTest(t, func(ctx context.Context) error { return installed.SetMaxActiveRuns(ctx, 0) })
	must(t, installed.SetMaxActiveRuns(t.Context(), 1))
	must(t, installed.WaitForZero(t.Context(), zeroLimit, "executor-test")) // the executor reads the setting at its start
	project, stages := "e2e-"+uuid.NewString()[:8], []string{"a", "b", "c"}
	shipyard := "apiVersion: spec.keptn.sh/0.2.2\nkind: Shipyard\nmetadata: {name: e2e}\nspec:\n  stages:\n"
	for _, name := range stages { // Keptn itself lets only one sequence of a stage run at a time
		shipyard += "    - {name: " + name + ", sequences: [{name: pipeline, tasks: [{name: test}]}]}\n"
	}
	must(t, installed.CreateProject(t.Context(), project, shipyard, service, stages, map[string][]byte{"job/config.yaml": []byte(`apiVersion: v2
actions:
  - name: Wait
    event: test.triggered
    image: busybox
    cmd: [sleep, "2"]
`)}))
	var contexts []string
	for _, name := range stages {
		keptnContext, err := installed.Trigger(t.Context(), project, name, "pipeline", service, nil)
		must(t, err)
		contexts = append(contexts, keptnContext)
	}
	var jobs []batchv1.Job
	for _, keptnContext := range contexts {
		events := succeeds(t, installed, project, keptnContext)
		contains(t, events[0].Data.Message, "It starts when fewer than 1 runs of project "+project+" are active.")
		of, err := installed.Jobs(t.Context(), keptnContext)
		must(t, err)
		jobs = append(jobs, of...)
	}
	slices.SortFunc(jobs, func(one, other batchv1.Job) int { return one.Status.StartTime.Compare(other.Status.StartTime.Time) })
	compare(t, "Jobs", len(stages), len(jobs))
	for index := 1; index < len(jobs); index++ {
		if started, ended := jobs[index].Status.StartTime.Time, jobs[index-1].Status.CompletionTime.Time; started.Before(ended) {
			t.Errorf("Job %s started at %s, before %s had ended at %s", jobs[index].Name, started, jobs[index-1].Name, ended)
		}
	}
	for index, keptnContext := range contexts {
		traced(t, installed, keptnContext, "SERVER bridge RUN "+project+"/"+stages[index]+"/"+service+" pipeline = success\n  INTERNAL bridge test = success"+
			traces.Job("Wait", "success", "", "finalizing", "pending", "queued", "run")+traces.Sent("test")+traces.Completed("test"))
	}
}

// The first task must still run when the watcher, which may have to start from zero on a busy node, resumes
// the second one.
func TestTasksOfAParallelActionRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"action"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Remedy
    events: [{name: sh.keptn.event.action.triggered}]
    parallel: true
    tasks:
      - {name: first, image: busybox, cmd: [sh, -c], args: ['sleep 60; exit 3']}
      - {name: second, image: busybox, cmd: [sh, -c], args: ['sleep 60; echo two']}
`})
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "errored", stageState)
	compare(t, "events", []summary{{Type: "action.started"}, {"action.finished", "errored", "fail"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "Task 'first' failed", "Task 'second' finished successfully!", "two")
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	if len(jobs) != 2 {
		t.Fatalf("there are %d Jobs, not 2", len(jobs))
	}
	for index := range jobs {
		if finished, started := run.FinishedAt(&jobs[index]), jobs[1-index].Status.StartTime.Time; !started.Before(finished) {
			t.Errorf("Job %s started at %s, after the other one had finished at %s", jobs[1-index].Name, started, finished)
		}
	}
}

func TestOnlyKeptnsLogIsToldWhereNoActionMatches(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"get-sli"}, map[string]string{"job/config.yaml": greeting})
	triggered := triggeredEvent(t, installed, keptnContext, "get-sli")
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		logged, err := installed.ErrorsOf(ctx, triggered.ID)
		want := []string{"Nothing is run for task get-sli: no action of job/config.yaml matches sh.keptn.event.get-sli.triggered: " +
			`"Greet" is for sh.keptn.event.test.triggered`}
		if difference := cmp.Diff(want, logged); err == nil && difference != "" {
			err = fmt.Errorf("Keptn's log (-want +got):\n%s", difference)
		}
		return err
	}))
	events, err := installed.Events(t.Context(), keptnContext)
	must(t, err)
	compare(t, "events", []summary(nil), summaries(console.Ours(events)))
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	compare(t, "Jobs", 0, len(jobs))
	must(t, installed.Abort(t.Context(), project, keptnContext))
	traced(t, installed, keptnContext, "SERVER bridge RUN "+project+"/production/shop pipeline (aborted) = cancellation"+
		"\n  INTERNAL bridge get-sli = skip"+traces.Skipped("get-sli"))
}

func TestEventDeliveredThreeTimesRunsOnce(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "once\n"})
	triggered := triggeredEvent(t, installed, keptnContext, "test")
	// Send the event twice more, concurrently with the bridge.
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if err := installed.SendToBroker(t.Context(), triggered.Raw); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	stageState, events := end(t, installed, project, keptnContext)
	// And once more after its end.
	must(t, installed.SendToBroker(t.Context(), triggered.Raw))
	compare(t, "stage", "succeeded", stageState)
	compare(t, "events", []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	compare(t, "Jobs", 1, len(jobs))
	again, err := installed.Events(t.Context(), keptnContext)
	must(t, err)
	compare(t, "events after the end", summaries(events), summaries(console.Ours(again)))
}

func TestAnyOtherTaskIsTakenOnceItIsSubscribedTo(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	name := "custom-" + uuid.NewString()[:8]
	must(t, installed.Subscribe(t.Context(), "job-executor", "sh.keptn.event."+name+".triggered"))
	// Keptn answers the bridge's next ping with the new subscription. The next listing finds an event that was
	// triggered before.
	project, keptnContext := begin(t, installed, []string{name}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Any
    events: [{name: "sh.keptn.event.custom-.*.triggered"}]
    tasks: [{name: any, image: busybox, cmd: [echo], args: [custom]}]
`})
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	compare(t, "events", []summary{{Type: name + ".started"}, {name + ".finished", "succeeded", "pass"}}, summaries(events))
}

// An action for the end of a task runs once it is subscribed to, and sends nothing to Keptn.
func TestEventThatTriggersNothingRunsSilently(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	name := "custom-" + uuid.NewString()[:8]
	for _, phase := range []string{"triggered", "finished"} {
		must(t, installed.Subscribe(t.Context(), "job-executor", "sh.keptn.event."+name+"."+phase))
	}
	project, keptnContext := begin(t, installed, []string{name}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - {name: Do, event: "sh.keptn.event.custom-.*.triggered", image: busybox, cmd: [echo, done]}
  - {name: Tell, event: "sh.keptn.event.custom-.*.finished", image: busybox, cmd: [echo, told]}
`})
	_, events := end(t, installed, project, keptnContext)
	compare(t, "events", []summary{{Type: name + ".started"}, {name + ".finished", "succeeded", "pass"}}, summaries(events))
	var jobs []string
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		all, err := installed.Jobs(ctx, keptnContext)
		jobs = nil
		for index := range all {
			jobs = append(jobs, fmt.Sprintf("%s %s", all[index].Labels[run.ActionLabel], run.PhaseOf(&all[index])))
		}
		slices.Sort(jobs)
		if want := []string{"Do succeeded", "Tell succeeded"}; err == nil && !slices.Equal(jobs, want) {
			err = fmt.Errorf("the Jobs are %v, want %v", jobs, want)
		}
		return err
	}))
	again, err := installed.Events(t.Context(), keptnContext)
	must(t, err)
	compare(t, "events after the end", summaries(events), summaries(console.Ours(again)))
}

// Applying again does not change the user's token.
func TestApplyingTwiceLeavesTheTokenAlone(t *testing.T) {
	installed := connect(t)
	must(t, installed.MakeToken(t.Context()))
	before, err := installed.Token(t.Context())
	must(t, err)
	must(t, installed.Install(t.Context(), func(string) {}))
	after, err := installed.Token(t.Context())
	must(t, err)
	if before == "" || after != before {
		t.Errorf("the token of %d characters became one of %d", len(before), len(after))
	}
}

// A task that no executor can accept does not hang. Here its configuration is unreadable, because its commit does
// not exist.
func TestUndeliverableTaskEndsWithTheReason(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	// The bridge is not subscribed to the event, so only this test sends it to the Broker.
	project, keptnContext := begin(t, installed, []string{"unheard"}, nil)
	var triggered map[string]any
	must(t, json.Unmarshal(triggeredEvent(t, installed, keptnContext, "unheard").Raw, &triggered))
	triggered["gitcommitid"], triggered[protocol.ReceiverExtension] = strings.Repeat("d", 40), protocol.ReceiverCustom
	content, err := json.Marshal(triggered)
	must(t, err)
	must(t, installed.SendToBroker(t.Context(), content))
	// The pauses between deliveries are twice as long with NATS JetStream and RabbitMQ.
	limit, cancel := context.WithTimeout(t.Context(), 2*runLimit)
	defer cancel()
	stageState, events := endWithin(limit, t, installed, project, keptnContext)
	compare(t, "stage", "errored", stageState)
	compare(t, "events", []summary{{Type: "unheard.started"}, {"unheard.finished", "errored", "fail"}}, summaries(events))
	reason := []string{"No executor accepted this task: status 503: ", "read job/config.yaml", "Internal server error"}
	if brokerIs("rabbitmq") {
		reason = []string{"No executor accepted this task: status 503; the executor's log has the reason"}
	}
	contains(t, events[len(events)-1].Data.Message, reason...)
	traced(t, installed, keptnContext, treeOf(project, "unheard", "error", strings.TrimSpace(events[len(events)-1].Data.Message), `
    PRODUCER bridge send run.awaited
      CONSUMER watcher process run.awaited
        CONSUMER bridge process unheard.finished
          PRODUCER bridge send unheard.finished
          PRODUCER bridge send unheard.started`))
}
