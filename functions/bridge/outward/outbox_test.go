package outward

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// delivered keeps the last event.
type delivered struct {
	last                      event.Event
	dropped, settled, aborted bool
	err                       error
}

func (delivered *delivered) Deliver(_ context.Context, answer keptn.Answer) (Delivery, error) {
	delivered.last = answer.Event
	return Delivery{Sent: delivered.err == nil && !delivered.dropped, Settled: delivered.settled, Aborted: delivered.aborted}, delivered.err
}

// journal keeps Keptn's log.
type journal struct {
	entries []models.LogEntry
	err     error
}

func (journal *journal) Log(_ context.Context, entry models.LogEntry) error {
	journal.entries = append(journal.entries, entry)
	return journal.err
}

func integrationID() string { return "id" }

func TestErrorsAppearInKeptnsLog(t *testing.T) {
	entry := func(message string) []models.LogEntry {
		return []models.LogEntry{{IntegrationID: "id", Message: message, Time: noon, KeptnContext: task.Context, Task: "test", TriggeredID: "1"}}
	}
	tests := []struct {
		name      string
		told      event.Event
		id        string
		dropped   bool
		err       error
		want      []models.LogEntry
		wantError bool
	}{
		{"a finished event that is errored", task.Finished(noon, keptn.Errored("it broke")), "id", false, nil, entry("it broke"), false},
		{"even if the log can't be written, it has been sent", task.Finished(noon, keptn.Errored("it broke")), "id", false, errDown, entry("it broke"), false},
		{"not one that was dropped", task.Finished(noon, keptn.Errored("it broke")), "id", true, nil, nil, false},
		{"nor one that passed", task.Finished(noon, keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}), "id", false, nil, nil, false},
		{"nor a started one", task.Started(noon), "id", false, nil, nil, false},
		{"an error without a finished event", task.LogError(noon, "silent, but broken"), "id", false, nil, entry("silent, but broken"), false},
		{"which is repeated if the log can't be written", task.LogError(noon, "silent, but broken"), "id", false, errDown, entry("silent, but broken"), true},
		{"or if there is no registration yet", task.LogError(noon, "silent, but broken"), "", false, nil, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			journal := &journal{err: test.err}
			outbox := &Outbox{
				Keptn: &delivered{dropped: test.dropped}, Journal: journal, IntegrationID: func() string { return test.id }, Runs: newRuns(nil, nil, nil), Log: discard,
			}
			if _, err := outbox.Handle(t.Context(), test.told); (err != nil) != test.wantError {
				t.Errorf("got %v", err)
			}
			if difference := cmp.Diff(test.want, journal.entries); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestOutboxSaysWhatIsWorthRepeating(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("sending: %w", &api.StatusError{Code: code}) }
	tests := []struct {
		name      string
		err       error
		permanent bool
	}{
		{"Keptn took it", nil, false},
		{"Keptn is down", errDown, false},
		{"Keptn is busy", status(429), false},
		{"the token is wrong for now", status(401), false},
		{"Keptn refuses the event", status(400), true},
		{"it is too large for Keptn", status(413), true},
		{"Keptn can't process it", status(422), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			outbox := &Outbox{Keptn: &delivered{err: test.err}, Runs: newRuns(nil, nil, nil), Now: func() time.Time { return noon }, Log: discard}
			_, err := outbox.Handle(t.Context(), task.Started(noon))
			if function.IsPermanent(err) != test.permanent || (err == nil) != (test.err == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOutboxLeavesOutWhatTheBrokerAdded(t *testing.T) {
	keptnsSide := &delivered{}
	routed := task.Started(noon)
	want := routed.Clone()
	routed.SetExtension("knativearrivaltime", "2026-11-24T12:00:00Z")
	routed.SetExtension("traceparent", "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01")
	if _, err := (&Outbox{Keptn: keptnsSide, Runs: newRuns(nil, nil, nil), Log: discard}).Handle(t.Context(), routed); err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(want.String(), keptnsSide.last.String()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Keptn has a result only when it says so; then the run is reported, and not before. A
// run that begins as its sequence is aborted, which nobody looks after yet, is cancelled.
func TestOutboxAnswersForTheRun(t *testing.T) {
	started, finished := task.Started(noon), task.Finished(noon, keptn.Errored(""))
	tests := []struct {
		name             string
		answer           event.Event
		settled, aborted bool
		want             string
	}{
		{"Keptn has counted its result", finished, true, false, "1-reported"},
		{"Keptn has only taken its result", finished, false, false, ""},
		{"it ended, and its sequence was aborted", finished, true, true, "1-reported"},
		{"it begins", started, false, false, ""},
		{"it begins, and its sequence was aborted", started, true, true, "1-cancelled"},
		{"Keptn is told that it began, and has its result", started, true, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keptnsSide := &delivered{settled: test.settled, aborted: test.aborted}
			outbox := &Outbox{Keptn: keptnsSide, Journal: &journal{}, IntegrationID: integrationID, Runs: newRuns(nil, nil, nil), Source: "ours", Now: func() time.Time { return noon }, Log: discard}
			reply, err := outbox.Handle(t.Context(), test.answer)
			id := ""
			if reply != nil {
				id = reply.ID()
			}
			if err != nil || id != test.want {
				t.Errorf("got %q, %v", id, err)
			}
		})
	}
}

func TestUndeliveredTaskIsAskedForWithTheReason(t *testing.T) {
	const brokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	tests := []struct {
		name, destination string
		want              []string
	}{
		{"no executor could take it", "http://executor-test.job-executor.svc.cluster.local", []string{"1: Job Executor could not take this task: status 503: reading job/config.yaml: 502"}},
		{"Knative does not say where it failed", "", []string{"1: Job Executor could not take this task: status 503: reading job/config.yaml: 502"}},
		{"an executor took it, and its reply failed", brokerURL, nil},
		{"its reply failed at the Broker's channel", "http://broker-ingress.knative-eventing.svc.cluster.local/other", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			undelivered := triggered(task)
			undelivered.SetExtension("knativeerrorcode", 503)
			undelivered.SetExtension("knativeerrordata", "cmVhZGluZyBqb2IvY29uZmlnLnlhbWw6IDUwMg==")
			undelivered.SetExtension("knativeerrordest", test.destination)
			var asked []string
			outbox := &Outbox{BrokerURL: brokerURL, Log: discard, Ask: func(_ context.Context, task keptn.Task, reason string) error {
				asked = append(asked, task.TriggeredID+": "+reason)
				return nil
			}}
			if _, err := outbox.HandleUndelivered(t.Context(), undelivered); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, asked); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if _, err := outbox.HandleUndelivered(t.Context(), task.Finished(noon, keptn.Errored(""))); err == nil || function.IsPermanent(err) {
				t.Errorf("a finished event was given up: %v", err)
			}
		})
	}
}
