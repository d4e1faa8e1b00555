package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/console"
)

// begin creates a project, whose sequence has a task test, and triggers it.
func begin(t *testing.T, keptn console.Keptn, project, config string) (keptnContext string) {
	t.Helper()
	files := map[string][]byte{"job/config.yaml": []byte(config), "a.txt": []byte("a")}
	if err := keptn.CreateProject(t.Context(), project, console.Shipyard("dev", "test"), "cart", []string{"dev"}, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := keptn.Trigger(t.Context(), project, "dev", "pipeline", "cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	return keptnContext
}

// awaitTrace waits until a context's trace is the wanted one.
func awaitTrace(t *testing.T, system *System, keptnContext, want string) {
	t.Helper()
	err := console.Eventually(t.Context(), flowLimit, func(context.Context) error {
		if difference := cmp.Diff(want+"\n", console.Outline(system.Trace(console.TraceID(keptnContext)))); difference != "" {
			return errors.New("(-want +got):\n" + difference)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// If no executor accepts the task, the trace shows the reason and the attempts.
func TestTraceOfATaskThatNobodyTakes(t *testing.T) {
	refusing := http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		http.Error(writer, "no memory on any node", http.StatusServiceUnavailable)
	})
	system := start(t, Options{Retries: new(int32(1)), Before: func(name string, handler http.Handler) http.Handler {
		if strings.HasPrefix(name, executorPrefix) {
			return refusing
		}
		return handler
	}})
	keptnContext := begin(t, console.Keptn{Call: system.Call}, "untaken", "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: alpine}\n")
	const why = "No executor accepted this task: status 503: no memory on any node"
	awaitTrace(t, system, keptnContext, "SERVER bridge RUN dev.pipeline = failure ! "+why+"\nSERVER bridge RUN test = error ! "+why+`
  PRODUCER bridge send sh.keptn.event.test.triggered
    CONSUMER bridge process sh.keptn.event.test.triggered
      PRODUCER bridge send io.github.job-executor.run.awaited
        CONSUMER watcher process io.github.job-executor.run.awaited
          CONSUMER bridge process sh.keptn.event.test.finished
            PRODUCER bridge send sh.keptn.event.test.finished
            PRODUCER bridge send sh.keptn.event.test.started`)
}

// If the bridge is replaced during a task, its trace is still one tree, except for the sequence's span: the
// next bridge has not seen its start.
func TestTraceGoesOnWithAnotherBridge(t *testing.T) {
	system := start(t, Options{})
	keptn := console.Keptn{Call: system.Call}
	keptnContext := begin(t, keptn, "replaced", "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: alpine, cmd: [sleep, '4']}\n")
	awaitTaken(t, system, keptn, "replaced", keptnContext, true)
	if err := system.ReplaceBridge(); err != nil {
		t.Fatal(err)
	}
	awaitTrace(t, system, keptnContext, `SERVER bridge RUN test = success
  INTERNAL watcher A = success
    INTERNAL watcher pending
    INTERNAL watcher run
  PRODUCER bridge send sh.keptn.event.test.triggered
    CONSUMER executor process sh.keptn.event.test.triggered
      CONSUMER bridge process sh.keptn.event.test.started
        PRODUCER bridge send sh.keptn.event.test.started
      INTERNAL executor create Jobs
      INTERNAL executor read job/config.yaml
  PRODUCER jobsource send io.github.job-executor.job.completed
    CONSUMER watcher process io.github.job-executor.job.completed
      CONSUMER bridge process sh.keptn.event.test.finished
        PRODUCER bridge send sh.keptn.event.test.finished
      INTERNAL watcher read logs`)
}

// Each task is one tree that a person can read.
func TestTraces(t *testing.T) {
	// traced is a program in a container that writes a span, as OpenTelemetry's libraries do.
	var system *System
	traced := func(ctx context.Context, container Container) int {
		signals := telemetry.To("program", slog.DiscardHandler, sdktrace.NewSimpleSpanProcessor(system.Spans))
		parent := telemetry.Parse(ctx, container.Environment["TRACEPARENT"])
		_, span := signals.Tracers.Tracer("").Start(trace.ContextWithRemoteSpanContext(ctx, parent), container.Environment["OTEL_SERVICE_NAME"]+" works")
		span.End()
		return 0
	}
	system = start(t, Options{Programs: map[string]Program{"docker.io/library/traced": traced}})
	keptn := console.Keptn{Call: system.Call}
	const started = `
    CONSUMER executor process sh.keptn.event.test.triggered
      CONSUMER bridge process sh.keptn.event.test.started
        PRODUCER bridge send sh.keptn.event.test.started
      INTERNAL executor create Jobs
      INTERNAL executor read job/config.yaml`
	const sent = `
  PRODUCER bridge send sh.keptn.event.test.triggered` + started
	// completed returns the spans after the completion of a Job.
	completed := func(below string) string {
		return `
  PRODUCER jobsource send io.github.job-executor.job.completed
    CONSUMER watcher process io.github.job-executor.job.completed` + below
	}
	const finished = `
      CONSUMER bridge process sh.keptn.event.test.finished
        PRODUCER bridge send sh.keptn.event.test.finished`
	// passed and failed are the sequence's own span.
	const (
		passed = "SERVER bridge RUN dev.pipeline = success\n"
		failed = "SERVER bridge RUN dev.pipeline = failure ! "
	)
	const logs = `
      INTERNAL watcher read logs`
	tests := []struct {
		name, config string
		aborts       bool
		want         string
	}{
		{
			name:   "a program that writes spans",
			config: "apiVersion: v2\nactions:\n- {name: Load, event: test.triggered, image: traced}\n",
			want: passed + `SERVER bridge RUN test = success
  INTERNAL watcher Load = success
    INTERNAL watcher pending
    INTERNAL watcher run
      INTERNAL program Load works` + sent + completed(finished+logs),
		},
		{
			name:   "a task whose time is over",
			config: "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: alpine, cmd: [sleep, '100'], maxPollDuration: 1}\n",
			want: failed + `Task 'A' failed: The task did not finish within 1 seconds (maxPollDuration).
SERVER bridge RUN test = timeout ! Task 'A' failed: The task did not finish within 1 seconds (maxPollDuration).
  INTERNAL watcher A = timeout ! The task did not finish within 1 seconds (maxPollDuration).
    INTERNAL watcher pending
    INTERNAL watcher run ! The task did not finish within 1 seconds (maxPollDuration).` + sent + completed(finished+logs),
		},
		{
			name:   "a task with a file",
			config: "apiVersion: v2\nactions:\n- {name: Greet, event: test.triggered, image: alpine, cmd: [cat, /keptn/a.txt], files: [a.txt]}\n",
			want: passed + `SERVER bridge RUN test = success
  INTERNAL watcher Greet = success
    INTERNAL watcher fetch files
      INTERNAL fetcher read a.txt
    INTERNAL watcher pending
    INTERNAL watcher run` + sent + completed(finished+logs),
		},
		{
			name: "two Jobs, and the second one fails",
			config: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test.triggered}]\n  tasks:\n" +
				"  - {name: one, image: alpine, cmd: ['true']}\n  - {name: two, image: alpine, cmd: [sh, -c, exit 3]}\n",
			want: failed + `Task 'two' failed: Container task failed (Reason: Error, ExitCode: 3).
SERVER bridge RUN test = failure ! Task 'two' failed: Container task failed (Reason: Error, ExitCode: 3).
  INTERNAL watcher one = success
    INTERNAL watcher pending
    INTERNAL watcher run
  INTERNAL watcher two = failure ! Container task failed (Reason: Error, ExitCode: 3).
    INTERNAL watcher pending
    INTERNAL watcher queued
    INTERNAL watcher run ! Container task failed (Reason: Error, ExitCode: 3).` + sent + completed(finished+logs),
		},
		{
			name:   "a mistake in the file",
			config: "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, imag: alpine}\n",
			want: failed + `job/config.yaml is not valid: line 3, column 36: actions[0].imag is not a known key; did you mean image?
SERVER bridge RUN test = error ! job/config.yaml is not valid: line 3, column 36: actions[0].imag is not a known key; did you mean image?
  PRODUCER bridge send sh.keptn.event.test.triggered
    CONSUMER executor process sh.keptn.event.test.triggered
      CONSUMER bridge process sh.keptn.event.test.finished
        PRODUCER bridge send sh.keptn.event.test.finished
        PRODUCER bridge send sh.keptn.event.test.started
      INTERNAL executor read job/config.yaml`,
		},
		{
			name:   "nothing matches",
			config: "apiVersion: v2\nactions:\n- {name: A, event: release.triggered, image: alpine}\n",
			aborts: true,
			want: `SERVER bridge RUN dev.pipeline = cancellation
SERVER bridge RUN test = skip
  PRODUCER bridge send sh.keptn.event.test.triggered
    CONSUMER executor process sh.keptn.event.test.triggered
      CONSUMER bridge process sh.keptn.log.error
      INTERNAL executor read job/config.yaml`,
		},
		{
			name:   "an abort",
			config: "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: alpine, cmd: [sleep, '100']}\n",
			aborts: true,
			want: `SERVER bridge RUN dev.pipeline = cancellation
SERVER bridge RUN test = cancellation
  INTERNAL watcher A = cancellation
    INTERNAL watcher pending
    INTERNAL watcher run
  PRODUCER bridge send io.github.job-executor.run.cancelled
    CONSUMER watcher process io.github.job-executor.run.cancelled` + sent,
		},
	}
	for index, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			project := fmt.Sprintf("traced-%d", index)
			keptnContext := begin(t, keptn, project, test.config)
			if test.aborts {
				awaitTaken(t, system, keptn, project, keptnContext, strings.Contains(test.want, "create Jobs"))
				if err := keptn.Abort(t.Context(), project, keptnContext); err != nil {
					t.Fatal(err)
				}
			}
			awaitTrace(t, system, keptnContext, test.want)
			if test.name == "a task with a file" {
				spans := system.Trace(console.TraceID(keptnContext))
				if difference := cmp.Diff(console.AttributesOfATask, console.Attributes(spans)); difference != "" {
					t.Errorf("attributes (-want +got):\n%s\n%s", difference, console.Attributes(spans))
				}
			}
		})
	}
}
