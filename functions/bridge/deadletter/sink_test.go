package deadletter

import (
	stdcmp "cmp"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/test/fixture"
)

func TestUndeliveredTaskIsAskedForWithTheReason(t *testing.T) {
	const unexplained = "1: No executor accepted this task: status 503; the executor's log has the reason"
	const brokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	tests := []struct {
		name, destination string
		// data and broker replace those of other cases; - means none.
		data, broker string
		// unanswered says that the Broker has asked no executor.
		unanswered bool
		// code replaces the status 503.
		code any
		want []string
	}{
		{
			name:        "no executor accepted it",
			destination: "http://executor-test.job-executor.svc.cluster.local",
			want:        []string{"1: No executor accepted this task: status 503: reading job/config.yaml: 502"},
		},
		{
			name: "Knative does not say where it failed",
			want: []string{"1: No executor accepted this task: status 503: reading job/config.yaml: 502"},
		},
		{name: "its reply failed", destination: brokerURL},
		{name: "no executor was asked", unanswered: true},
		{
			name:        "no destination",
			destination: "://",
			want:        []string{"1: No executor accepted this task: status 503: reading job/config.yaml: 502"},
		},
		{
			name: "an unreadable reason", destination: "http://executor", data: "no base64", want: []string{unexplained},
		},
		{name: "no reason", destination: "http://executor", data: "-", want: []string{unexplained}},
		{
			name: "no executor answered RabbitMQ's Broker", destination: "http://executor", data: "-", code: "-1",
			want: []string{"1: No executor accepted this task: no answer"},
		},
		{name: "an executor accepted it, but RabbitMQ's Broker not its reply", destination: "http://executor", code: "200"},
		{
			name: "a Broker without a path", destination: "http://executor", broker: "http://broker",
			want: []string{"1: No executor accepted this task: status 503: reading job/config.yaml: 502"},
		},
		{name: "its reply failed at the channel", destination: "http://broker-ingress.knative-eventing.svc.cluster.local/other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			undelivered := fixture.Triggered(fixture.Task)
			undelivered.SetExtension("knativeerrorcode", stdcmp.Or[any](test.code, 503))
			undelivered.SetExtension("knativeerrordata", strings.Trim(stdcmp.Or(test.data, "cmVhZGluZyBqb2IvY29uZmlnLnlhbWw6IDUwMg=="), "-"))
			undelivered.SetExtension("knativeerrordest", test.destination)
			if test.unanswered {
				for _, name := range []string{"knativeerrorcode", "knativeerrordata", "knativeerrordest"} {
					undelivered.SetExtension(name, nil)
				}
			}
			var asked []string
			sink := &Sink{
				BrokerURL: stdcmp.Or(test.broker, brokerURL),
				Now:       func() time.Time { return fixture.Noon },
				Log:       fixture.Discard,
				Count:     func(context.Context, string) {},
				Ask: func(_ context.Context, task keptn.Task, reason string) error {
					asked = append(asked, task.TriggeredID+": "+reason)
					return nil
				},
			}
			if _, err := sink.Handle(t.Context(), undelivered); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, asked); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if _, err := sink.Handle(t.Context(), fixture.Task.Event(keptn.Finished, fixture.Noon, keptn.Errored(""))); err == nil || function.IsPermanent(err) {
				t.Errorf("a finished event was given up: %v", err)
			}
		})
	}
}

// Nobody waits for an observed event, but somebody may look in Keptn's log.
func TestKeptnsLogIsToldOfWhatWasObservedInVain(t *testing.T) {
	var reported []string
	sink := &Sink{
		BrokerURL: "http://broker/keptn", Now: func() time.Time { return fixture.Noon }, Log: fixture.Discard,
		Count: func(_ context.Context, eventType string) { reported = append(reported, "counted: "+eventType) },
		Deliver: func(_ context.Context, answer protocol.Answer) (*event.Event, error) {
			reported = append(reported, answer.EventType()+": "+answer.Outcome.Message)
			return nil, nil
		},
	}
	undelivered := keptn.Observed(fixture.Task.Event(keptn.Finished, fixture.Noon, keptn.Errored("")))
	undelivered.SetExtension("knativeerrorcode", 503)
	if _, err := sink.Handle(t.Context(), undelivered); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"counted: " + keptn.ObservedType,
		"sh.keptn.log.error: No executor accepted event sh.keptn.event.test.finished: status 503; the executor's log has the reason",
	}
	if difference := cmp.Diff(want, reported); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
