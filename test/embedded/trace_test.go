package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/tracing"
	"github.com/job-executor/job-executor/test/console"
)

// Each task is one tree that a person can read.
func TestTraces(t *testing.T) {
	// traced is a program in a container that writes a span, as OpenTelemetry's libraries do.
	var system *System
	traced := func(ctx context.Context, container Container) int {
		telemetry := function.TelemetryTo("program", slog.DiscardHandler, sdktrace.NewSimpleSpanProcessor(system.Spans))
		parent := tracing.Parse(ctx, container.Environment["TRACEPARENT"])
		_, span := telemetry.Tracers.Tracer("").Start(trace.ContextWithRemoteSpanContext(ctx, parent), container.Environment["OTEL_SERVICE_NAME"]+" works")
		span.End()
		return 0
	}
	system, err := Start(t.Context(), Options{
		Directory: t.TempDir(), Manifests: "../../config", Log: slog.DiscardHandler, Programs: map[string]Program{"docker.io/library/traced": traced},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { system.Close(t.Context()) })
	keptn := console.Keptn{Call: system.Call}
	const started = `
    CONSUMER executor process sh.keptn.event.test.triggered
      CONSUMER bridge process sh.keptn.event.test.started
        PRODUCER bridge send sh.keptn.event.test.started
      INTERNAL executor create Jobs
      INTERNAL executor read job/config.yaml`
	const sent = `
  PRODUCER bridge send sh.keptn.event.test.triggered` + started
	// completed is what the completion of a Job leads to.
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
			want: failed + `Task 'A' failed: it did not finish within 1 seconds (maxPollDuration)
SERVER bridge RUN test = timeout ! Task 'A' failed: it did not finish within 1 seconds (maxPollDuration)
  INTERNAL watcher A = timeout ! it did not finish within 1 seconds (maxPollDuration)
    INTERNAL watcher pending
    INTERNAL watcher run ! it did not finish within 1 seconds (maxPollDuration)` + sent + completed(finished+logs),
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
			name: "two Jobs, of which the second fails",
			config: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test.triggered}]\n  tasks:\n" +
				"  - {name: one, image: alpine, cmd: ['true']}\n  - {name: two, image: alpine, cmd: [sh, -c, exit 3]}\n",
			want: failed + `Task 'two' failed: container task ended (Reason: Error, ExitCode: 3)
SERVER bridge RUN test = failure ! Task 'two' failed: container task ended (Reason: Error, ExitCode: 3)
  INTERNAL watcher one = success
    INTERNAL watcher pending
    INTERNAL watcher run
  INTERNAL watcher two = failure ! container task ended (Reason: Error, ExitCode: 3)
    INTERNAL watcher pending
    INTERNAL watcher queued
    INTERNAL watcher run ! container task ended (Reason: Error, ExitCode: 3)` + sent + completed(finished+logs),
		},
		{
			name:   "a mistake in the file",
			config: "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, imag: alpine}\n",
			want: failed + `job/config.yaml is not valid: line 3, column 36: actions[0].imag is not known; did you mean image?
SERVER bridge RUN test = error ! job/config.yaml is not valid: line 3, column 36: actions[0].imag is not known; did you mean image?
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
    CONSUMER watcher process io.github.job-executor.run.cancelled` + sent + completed(`
      CONSUMER bridge process sh.keptn.event.test.finished`), // its Job is deleted then
		},
	}
	for index, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			project := fmt.Sprintf("traced-%d", index)
			files := map[string][]byte{"job/config.yaml": []byte(test.config), "a.txt": []byte("a")}
			if err := keptn.CreateProject(t.Context(), project, console.Shipyard("dev", "test"), "cart", []string{"dev"}, files); err != nil {
				t.Fatal(err)
			}
			keptnContext, err := keptn.Trigger(t.Context(), project, "dev", "pipeline", "cart", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.aborts {
				awaitTaken(t, system, keptn, keptnContext, strings.Contains(test.want, "create Jobs"))
				if err := keptn.Abort(t.Context(), project, keptnContext); err != nil {
					t.Fatal(err)
				}
			}
			err = console.Eventually(t.Context(), flowLimit, func(context.Context) error {
				if difference := cmp.Diff(test.want+"\n", console.Outline(system.Trace(console.TraceID(keptnContext)))); difference != "" {
					return errors.New("(-want +got):\n" + difference)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
