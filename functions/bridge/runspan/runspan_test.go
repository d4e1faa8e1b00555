package runspan

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

// recorded returns a Writer, and a function that returns its spans.
func recorded() (*Writer, func() []string) {
	recorder := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(telemetry.IDGenerator{}))
	writer := &Writer{
		Tracer: tracers.Tracer(
			"",
		), Ended: func(context.Context, keptn.Task, keptn.RunResult) {}, Now: func() time.Time { return fixture.Noon.Add(time.Minute) },
	}
	return writer, func() []string {
		var told []string
		for _, span := range recorder.Ended() {
			text := fmt.Sprintf("%s of %s/%s, %s to %s, %s %s", span.Name(), span.SpanContext().TraceID(), span.SpanContext().SpanID(),
				span.StartTime().Sub(fixture.Noon), span.EndTime().Sub(fixture.Noon), span.Status().Code, span.Status().Description)
			for _, attribute := range span.Attributes() {
				if attribute.Key == "cicd.pipeline.task.run.url.full" {
					text += " at " + attribute.Value.AsString()
				}
				if attribute.Key == "cicd.pipeline.task.run.result" || attribute.Key == "cicd.pipeline.result" {
					text += " = " + attribute.Value.AsString()
				}
			}
			for _, link := range span.Links() {
				text += " caused by " + link.SpanContext.SpanID().String()
			}
			if span.Parent().IsValid() {
				text += " below " + span.Parent().SpanID().String()
			}
			told = append(told, text)
		}
		return told
	}
}

// The span of a task is written once as a root, with the result and an explanation.
func TestRunOfATaskIsWrittenOnce(t *testing.T) {
	const of = "RUN test of 4ed578f61e1e4a119b2e9a7111760f5b/6b86b273ff34fce1, 0s to 1m0s, "
	const at = " at https://keptn.example.com/bridge/trace/4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"
	for result, want := range map[keptn.RunResult]string{
		keptn.RunSuccess: "Unset " + at + " = success", keptn.RunSkip: "Unset " + at + " = skip",
		keptn.RunCancellation: "Unset " + at + " = cancellation", "": "Unset " + at,
		keptn.RunFailure: "Error it broke" + at + " = failure", keptn.RunError: "Error it broke" + at + " = error",
		keptn.RunTimeout: "Error it broke" + at + " = timeout",
	} {
		t.Run(string(result), func(t *testing.T) {
			written, told := recorded()
			task := fixture.Task
			written.Page = "https://keptn.example.com/bridge"
			task.TriggeredAt, task.Traceparent = fixture.Noon, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			for range 2 {
				written.Write(telemetry.WithRun(t.Context(), fixture.Task), task, result, "\nit broke\nand more\n")
			}
			if difference := cmp.Diff([]string{of + want + " caused by b7ad6b7169203331"}, told()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestSpanOfARunAlwaysTakesSomeTime(t *testing.T) {
	ended := fixture.Noon.Add(time.Minute)
	for name, triggeredAt := range map[string]time.Time{
		"when it was triggered is not known": {}, "it ended at once": ended, "Keptn's clock is ahead": ended.Add(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			written, told := recorded()
			task := fixture.Task
			task.TriggeredAt = triggeredAt
			written.Write(telemetry.WithRun(t.Context(), task), task, keptn.RunFailure, strings.Repeat("é", maxStatusBytes))
			want := "RUN test of 4ed578f61e1e4a119b2e9a7111760f5b/6b86b273ff34fce1, 59.999999999s to 1m0s, Error " +
				strings.Repeat("é", maxStatusBytes/len("é")) + " = failure"
			if difference := cmp.Diff([]string{want}, told()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestSequenceIsWrittenWhereItWasSeenFromTheBeginning(t *testing.T) {
	seen := func(id, phase, status string, after time.Duration) event.Event {
		made := event.New()
		made.SetID(id)
		made.SetSource("shipyard-controller")
		made.SetType("sh.keptn.event.production.pipeline." + phase)
		made.SetTime(fixture.Noon.Add(after))
		made.SetExtension(keptn.ContextExtension, fixture.Task.Context)
		if phase == "finished" {
			made.SetID(id + "-finished")
			made.SetExtension(keptn.TriggeredIDExtension, id)
		}
		if err := made.SetData(event.ApplicationJSON, map[string]string{
			"project": "p",
			"result":  map[string]string{"succeeded": "pass", "aborted": "pass", "errored": "fail"}[status],
			"status":  status,
			"message": "it broke\nand more",
		}); err != nil {
			t.Fatal(err)
		}
		return made
	}
	written, told := recorded()
	for _, event := range []event.Event{
		seen("1", "finished", "succeeded", 0), seen("2", "triggered", "", 0),
		seen("2", "finished", "succeeded", time.Second), seen("2", "finished", "succeeded", time.Second),
		seen("3", "triggered", "", time.Second), seen("3", "finished", "errored", time.Minute),
		seen("4", "triggered", "", time.Minute), seen("4", "finished", "succeeded", 0),
		seen("5", "triggered", "", 0), seen("5", "finished", "aborted", time.Second),
	} {
		if !IsSequence(event.Type()) {
			t.Fatal(event.Type())
		}
		written.See(t.Context(), event)
	}
	of := func(id string) string {
		return "RUN production.pipeline of 4ed578f61e1e4a119b2e9a7111760f5b/" + telemetry.SpanID(id).String()
	}
	want := []string{
		of("2") + ", 0s to 1s, Unset  = success",
		of("3") + ", 1s to 1m0s, Error it broke = failure",
		of("5") + ", 0s to 1s, Unset  = cancellation",
	}
	if difference := cmp.Diff(want, told()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	for _, other := range []string{"sh.keptn.event.test.finished", "sh.keptn.event.a.b.started", "sh.keptn.event.a.b.c.finished", "sh.keptn.log.a.b.finished"} {
		if IsSequence(other) {
			t.Errorf("%s is none", other)
		}
	}
}
