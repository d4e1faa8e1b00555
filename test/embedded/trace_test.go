package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/traces"
)

// tracesOf returns a system for the questions of package traces.
func tracesOf(system *System) traces.System {
	return traces.System{
		Keptn:         console.Keptn{Call: system.Call},
		Trace:         func(_ context.Context, traceID string) ([]console.Span, error) { return system.Trace(traceID), nil },
		Kubernetes:    system.Cluster.Client(nil),
		ReplaceBridge: func(context.Context) error { return system.ReplaceBridge() },
		Limit:         2 * time.Minute, // Kubernetes retries after 10 and 20 s
	}
}

func TestTraces(t *testing.T) {
	for _, transport := range []string{"nats", "http"} {
		t.Run(transport, func(t *testing.T) {
			// Over HTTP, a new bridge holds answers back until Keptn would have counted those of an earlier bridge.
			system := start(t, Options{Settings: map[string]string{"KEPTN_TRANSPORT": transport, "KEPTN_LOSS_TIMEOUT": "5s"}})
			k := console.Keptn{Call: system.Call}
			held := begin(t, k, "held-"+transport, "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: busybox, cmd: ['true']}\n")
			awaitFinished(t, k, "held-"+transport, held)
			system.Spans.Reset()
			asked := tracesOf(system)
			if transport == "http" {
				asked.ReplaceBridge = nil // with its real timing, on the cluster
			}
			traces.Test(t, asked)
			checkConventions(t, system.Spans.GetSpans())
		})
	}
}

// awaitFinished waits until the sequence of a project has finished.
func awaitFinished(t *testing.T, keptn console.Keptn, project, keptnContext string) {
	t.Helper()
	if err := console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
		state, _, err := keptn.State(ctx, project, keptnContext)
		if err == nil && state != "finished" {
			err = fmt.Errorf("the sequence of %s is %q", project, state)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// begin creates a project, whose sequence has a task test, and triggers it.
func begin(t *testing.T, keptn console.Keptn, project, config string) (keptnContext string) {
	t.Helper()
	files := map[string][]byte{"job/config.yaml": []byte(config)}
	if err := keptn.CreateProject(t.Context(), project, console.Shipyard("dev", "test"), "cart", []string{"dev"}, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := keptn.Trigger(t.Context(), project, "dev", "pipeline", "cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	return keptnContext
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
	tracesOf(system).Await(t, keptnContext, "SERVER bridge RUN untaken/dev/cart pipeline = failure ! "+why+"\n  INTERNAL bridge test = error ! "+why+`
    PRODUCER bridge send test.triggered
      CONSUMER bridge process test.triggered
        PRODUCER bridge send run.awaited
          CONSUMER watcher process run.awaited
            CONSUMER bridge process test.finished
              PRODUCER bridge send test.finished
              PRODUCER bridge send test.started`)
}

// A program in a container writes a span, as OpenTelemetry's libraries do.
func TestSpanOfAProgramIsBelowItsJob(t *testing.T) {
	var system *System
	traced := func(ctx context.Context, container Container) int {
		signals := telemetry.To("program", slog.DiscardHandler, sdktrace.NewSimpleSpanProcessor(system.Spans))
		parent := telemetry.Parse(ctx, container.Environment["TRACEPARENT"])
		_, span := signals.Tracers.Tracer("").Start(trace.ContextWithRemoteSpanContext(ctx, parent), container.Environment["OTEL_SERVICE_NAME"]+" works")
		span.End()
		return 0
	}
	system = start(t, Options{Programs: map[string]Program{"docker.io/library/traced": traced}})
	keptnContext := begin(t, console.Keptn{Call: system.Call}, "traced", "apiVersion: v2\nactions:\n- {name: Load, event: test.triggered, image: traced}\n")
	tracesOf(system).Await(t, keptnContext, "SERVER bridge RUN traced/dev/cart pipeline = success\n  INTERNAL bridge test = success"+
		traces.Job("Load", "success", "")+"\n      INTERNAL program Load works"+traces.Sent("test")+traces.Completed("test"))
}

// A get-sli event of lighthouse-service belongs to the sequence that is evaluated.
func TestTraceOfAnEvaluation(t *testing.T) {
	system := start(t, Options{})
	asked := tracesOf(system)
	files := map[string][]byte{
		"slo.yaml": []byte("spec_version: '1.0'\ncomparison: {aggregate_function: avg}\nobjectives:\n- {sli: errors, pass: [{criteria: ['<=1']}]}\n" +
			"total_score: {pass: '90%', warning: '75%'}\n"),
		"job/config.yaml": []byte("apiVersion: v2\nactions:\n- {name: SLI, event: get-sli.triggered, image: busybox, " +
			`cmd: [sh, -c, 'echo ''{"get-sli": {"indicatorValues": [{"metric": "errors", "value": 0.5, "success": true}]}}'' > /dev/termination-log']}` + "\n"),
	}
	if err := asked.CreateProject(t.Context(), "shop", console.Shipyard("dev", "evaluation"), "cart", []string{"dev"}, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := asked.Trigger(t.Context(), "shop", "dev", "pipeline", "cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	asked.Await(t, keptnContext, "SERVER bridge RUN shop/dev/cart pipeline = success\n  INTERNAL bridge evaluation = skip"+traces.Skipped("evaluation")+
		"\n  INTERNAL bridge get-sli = success"+
		traces.Job("SLI", "success", "")+traces.Sent("get-sli")+traces.Completed("get-sli"))
}

// A run that waits for others of its project shows the wait.
func TestTraceOfAQueuedRun(t *testing.T) {
	system := start(t, Options{Settings: map[string]string{"MAX_ACTIVE_RUNS_PER_PROJECT": "1"}})
	asked := tracesOf(system)
	keptnContext := begin(t, asked.Keptn, "queued", "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: busybox, cmd: ['true']}\n")
	asked.Await(t, keptnContext, "SERVER bridge RUN queued/dev/cart pipeline = success\n  INTERNAL bridge test = success"+
		traces.Job("A", "success", "", "finalizing", "pending", "queued", "run")+traces.Sent("test")+traces.Completed("test"))
}

// However often the end of a Job is reported, its trace shows only once why the Job could not start.
func TestTraceOfAJobWhoseImageCannotBePulled(t *testing.T) {
	system := start(t, Options{Settings: map[string]string{"START_DEADLINE": "2s"}, Fate: func(*batchv1.Job) Fate { return Unpullable }})
	asked := tracesOf(system)
	keptnContext := begin(t, asked.Keptn, "unpullable", "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: 'registry.invalid/nothing:1'}\n")
	var message string
	if err := console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
		events, err := asked.Events(ctx, keptnContext)
		for _, event := range console.Ours(events) {
			if event.Type == "sh.keptn.event.test.finished" {
				message = strings.TrimSpace(event.Data.Message)
				return nil
			}
		}
		return cmp.Or(err, errors.New("the task has not finished"))
	}); err != nil {
		t.Fatal(err)
	}
	reason, ok := strings.CutPrefix(message, "Task 'A' failed: ")
	if !ok || !strings.Contains(reason, "Image registry.invalid/nothing:1 of container task cannot be pulled: manifest unknown") {
		t.Fatal(message)
	}
	asked.Await(t, keptnContext, "SERVER bridge RUN unpullable/dev/cart pipeline = failure ! "+message+"\n  INTERNAL bridge test = error ! "+message+
		traces.Job("A", "error", reason, "pending ! "+reason)+traces.Sent("test")+traces.Completed("test"))
}
