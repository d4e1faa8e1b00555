package telemetry

import (
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
)

func TestTraceIDIsTheKeptnContext(t *testing.T) {
	for keptnContext, want := range map[string]string{
		"4ed578f6-1e1e-4a11-9b2e-9a7111760f5b": "4ed578f61e1e4a119b2e9a7111760f5b",
		"4ed578f61e1e4a119b2e9a7111760f5b":     "4ed578f61e1e4a119b2e9a7111760f5b",
		"00000000-0000-0000-0000-000000000000": "12b9377cbe7e5c94e8a70d9d23929523",
		"my context":                           "bb136b416fa3dbc024ce0f2f2403ae24",
	} {
		if got := TraceID(keptnContext).String(); got != want {
			t.Errorf("%q: got %s, want %s", keptnContext, got, want)
		}
	}
}

// The ids of spans that others must know are the same each time, and no other span's.
func TestSpansHaveTheIDsThatWereDerived(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(IDGenerator{})).Tracer("")
	const keptnContext, triggeredID = "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", "1"
	task := keptn.Task{Context: keptnContext, TriggeredID: triggeredID}
	child, below := Start(WithRun(t.Context(), task), tracer, TraceID(keptnContext), JobSpanID("jobs", "job-1"), "job")
	_, random := tracer.Start(child, "in the container")
	_, root := Start(t.Context(), tracer, TraceID(keptnContext), SpanID(triggeredID), "RUN")
	for _, span := range []trace.Span{random, below, root} {
		span.End()
	}
	type named struct{ Name, Trace, ID, Parent string }
	var got []named
	for _, span := range recorder.Ended() {
		of := named{span.Name(), span.SpanContext().TraceID().String(), span.SpanContext().SpanID().String(), span.Parent().SpanID().String()}
		if of.Name == "in the container" {
			if of.ID == JobSpanID("jobs", "job-1").String() || !span.SpanContext().IsValid() {
				t.Errorf("it has the id %s", of.ID)
			}
			of.ID = "random"
		}
		got = append(got, of)
	}
	const traceID = "4ed578f61e1e4a119b2e9a7111760f5b"
	want := []named{
		{"in the container", traceID, "random", JobSpanID("jobs", "job-1").String()},
		{"job", traceID, JobSpanID("jobs", "job-1").String(), "6b86b273ff34fce1"},
		{"RUN", traceID, "6b86b273ff34fce1", "0000000000000000"},
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestTraceparentOfASpan(t *testing.T) {
	ctx := WithRun(t.Context(), keptn.Task{Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", TriggeredID: "1"})
	const want = "00-4ed578f61e1e4a119b2e9a7111760f5b-6b86b273ff34fce1-01"
	if got := Text(ctx); got != want {
		t.Errorf("got %s", got)
	}
	if got := Parse(ctx, want); !got.Equal(trace.SpanContextFromContext(ctx)) {
		t.Errorf("got %v", got)
	}
	if Text(t.Context()) != "" || Parse(ctx, "none").IsValid() {
		t.Error("there is none")
	}
}

// A Broker may replace the traceparent of an event, also of a reply.
func TestSenderOfAnEvent(t *testing.T) {
	const ours, theirs = "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01", "00-4ed578f61e1e4a119b2e9a7111760f5b-1111111111111111-01"
	for name, test := range map[string]struct{ within, traceparent, want string }{
		"ours":                              {within: ours, want: "00f067aa0ba902b7"},
		"ours, and the Broker's":            {within: ours, traceparent: theirs, want: "00f067aa0ba902b7"},
		"of an older function, or somebody": {traceparent: theirs, want: "1111111111111111"},
		"none":                              {want: "0000000000000000"},
		"no span":                           {within: "x", want: "0000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			received := event.New()
			received.SetExtension(SentWithinExtension, test.within)
			received.SetExtension("traceparent", test.traceparent)
			if got := SentWithin(t.Context(), received).SpanID().String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// An event has nothing of an earlier sender.
func TestSentEventNamesItsSender(t *testing.T) {
	const earlier, ours = "00-4ed578f61e1e4a119b2e9a7111760f5b-1111111111111111-01", "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01"
	for name, test := range map[string]struct{ within, want string }{
		"within a span":    {within: ours, want: ours},
		"without any span": {},
	} {
		t.Run(name, func(t *testing.T) {
			received := event.New()
			for _, attribute := range []string{SentWithinExtension, "traceparent", SentExtension} {
				received.SetExtension(attribute, earlier)
			}
			outgoing := Sent(trace.ContextWithSpanContext(t.Context(), Parse(t.Context(), test.within)), received)
			for _, attribute := range []string{SentWithinExtension, "traceparent"} {
				if got, _ := outgoing.Extensions()[attribute].(string); got != test.want {
					t.Errorf("%s is %q, want %q", attribute, got, test.want)
				}
			}
			if at := outgoing.Extensions()[SentExtension]; at == earlier || (at != nil) != (test.want != "") {
				t.Errorf("sent at %v", at)
			}
		})
	}
}
