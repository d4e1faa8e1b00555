package report

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
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/test/fixture"
)

// delivered keeps the last event.
type delivered struct {
	last                      protocol.Answer
	dropped, settled, aborted bool
	err                       error
}

func (d *delivered) Deliver(_ context.Context, answer protocol.Answer) (Delivery, error) {
	d.last = answer
	return Delivery{Sent: d.err == nil && !d.dropped, Settled: d.settled, Aborted: d.aborted}, d.err
}

// journal keeps Keptn's log.
type journal struct {
	entries []models.LogEntry
	err     error
}

func (j *journal) Log(_ context.Context, entry models.LogEntry) error {
	j.entries = append(j.entries, entry)
	return j.err
}

func integrationID() string { return "id" }

// noSpans writes no spans.
type noSpans struct{}

func (noSpans) Write(context.Context, keptn.Task, keptn.RunResult, string) {}
func (noSpans) Jobs(context.Context, keptn.Task, []protocol.Job)           {}

// noRuns tracks no runs.
type noRuns struct{}

func (noRuns) Add(keptn.Task)    {}
func (noRuns) Remove(keptn.Task) {}
func (noRuns) Cancel(_ context.Context, task keptn.Task) event.Event {
	return protocol.Cancelled("ours", task.TriggeredID, task.Context, noon)
}

// logging returns an answer with an entry for Keptn's log.
func logging(answer protocol.Answer, text string) protocol.Answer {
	answer.Logged = text
	return answer
}

func TestErrorsAppearInKeptnsLog(t *testing.T) {
	entry := func(message string) []models.LogEntry {
		return []models.LogEntry{{IntegrationID: "id", Message: message, Time: noon, KeptnContext: task.Context, Task: "test", TriggeredID: "1"}}
	}
	tests := []struct {
		name      string
		answer    protocol.Answer
		id        string
		dropped   bool
		err       error
		want      []models.LogEntry
		wantError bool
	}{
		{
			name:   "an errored finished event is logged",
			answer: ends(task, keptn.Errored("it broke")),
			id:     "id",
			want:   entry("it broke"),
		},
		{
			name:   "a failing log does not resend the event",
			answer: ends(task, keptn.Errored("it broke")),
			id:     "id",
			err:    errDown,
			want:   entry("it broke"),
		},
		{
			name:    "a dropped event is not logged",
			answer:  ends(task, keptn.Errored("it broke")),
			id:      "id",
			dropped: true,
		},
		{
			name:   "a passed event is not logged",
			answer: ends(task, keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}),
			id:     "id",
		},
		{name: "a started event is not logged", answer: begins(task), id: "id"},
		{
			name: "the error of a silent action is logged", answer: logging(begins(task), "it can't be run\nät all"), id: "id",
			want: entry("it can't be run\nät all"),
		},
		{
			name: "logged before the event's own error", answer: logging(ends(task, keptn.Errored("it broke")), "a silent one broke"), id: "id",
			want: append(entry("a silent one broke"), entry("it broke")...),
		},
		{name: "nothing is logged for a dropped event", answer: logging(begins(task), "it can't be run"), id: "id", dropped: true},
		{
			name:   "an error without a finished event",
			answer: protocol.Log(task, noon, "silent, but broken", ""),
			id:     "id",
			want:   entry("silent, but broken"),
		},
		{
			name:      "retried if the log cannot be written",
			answer:    protocol.Log(task, noon, "silent, but broken", ""),
			id:        "id",
			err:       errDown,
			want:      entry("silent, but broken"),
			wantError: true,
		},
		{
			name:      "retried without a registration",
			answer:    protocol.Log(task, noon, "silent, but broken", ""),
			wantError: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := &journal{err: test.err}
			outbox := &Outbox{
				Metrics: &fixture.Metrics{}, RunSpans: noSpans{},
				Keptn: &delivered{
					dropped: test.dropped, settled: test.dropped,
				},
				Journal:       j,
				IntegrationID: func() string { return test.id },
				Runs:          noRuns{},
				Now:           func() time.Time { return noon },
				Log:           discard,
			}
			if _, err := outbox.Handle(t.Context(), test.answer.Event()); (err != nil) != test.wantError {
				t.Errorf("got %v", err)
			}
			if difference := cmp.Diff(test.want, j.entries); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The Jobs of a run are measured once, with whichever answer is sent.
func TestJobsOfARunAreMeasured(t *testing.T) {
	jobs := []protocol.Job{{Name: "job-1"}, {Name: "job-2"}}
	measured := []string{"job-1 of 1", "job-2 of 1"}
	for name, test := range map[string]struct {
		answer protocol.Answer
		jobs   []protocol.Job
		want   []string
	}{
		"a finished event": {answer: ends(task, keptn.Outcome{}), jobs: jobs, want: measured},
		"a silent one's":   {answer: protocol.Log(task, noon, "broken", ""), jobs: jobs, want: measured},
		"a started event":  {answer: begins(task)},
	} {
		t.Run(name, func(t *testing.T) {
			metrics := &fixture.Metrics{}
			outbox := &Outbox{
				Metrics: metrics, RunSpans: noSpans{}, Journal: &journal{}, IntegrationID: func() string { return "id" },
				Runs: noRuns{}, Now: func() time.Time { return noon }, Log: discard,
			}
			for _, dropped := range []bool{false, true} { // the Broker delivers it twice
				outbox.Keptn = &delivered{dropped: dropped}
				test.answer.Jobs = test.jobs
				if _, err := outbox.Handle(t.Context(), test.answer.Event()); err != nil {
					t.Fatal(err)
				}
			}
			if difference := cmp.Diff(test.want, metrics.Records()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A log entry is written once, however often the Broker delivers it, and however long Keptn's log fails.
func TestLogEntryIsWrittenOnce(t *testing.T) {
	j := &journal{err: errDown}
	outbox := &Outbox{
		Keptn:         &delivered{},
		Journal:       j,
		IntegrationID: integrationID,
		Runs:          noRuns{},
		Metrics:       &fixture.Metrics{},
		RunSpans:      noSpans{},
		Log:           discard,
	}
	other := task
	other.TriggeredID = "2"
	same := protocol.Log(task, noon, "a", "")
	var failed []bool
	for _, answer := range []protocol.Answer{same, same, same, protocol.Log(other, noon, "b", "")} {
		_, err := outbox.Handle(t.Context(), answer.Event())
		failed = append(failed, err != nil)
		j.err = nil
	}
	var written []string
	for _, entry := range j.entries {
		written = append(written, entry.TriggeredID+entry.Message)
	}
	if difference := cmp.Diff([]string{"1a", "1a", "2b"}, written); difference != "" {
		t.Errorf("attempts (-want +got):\n%s", difference)
	}
	if difference := cmp.Diff([]bool{true, false, false, false}, failed); difference != "" {
		t.Errorf("failed (-want +got):\n%s", difference)
	}
}

func TestOutboxSaysWhatIsWorthRepeating(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("sending: %w", &api.StatusError{Code: code}) }
	tests := []struct {
		name      string
		err       error
		permanent bool
	}{
		{name: "accepted"},
		{name: "Keptn is down", err: errDown},
		{name: "Keptn is busy", err: status(429)},
		{name: "the token is wrong for now", err: status(401)},
		{name: "Keptn refuses the event", err: status(400), permanent: true},
		{name: "too large for Keptn", err: status(413), permanent: true},
		{name: "Keptn can't process it", err: status(422), permanent: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			outbox := &Outbox{
				Keptn:    &delivered{err: test.err},
				Runs:     noRuns{},
				Metrics:  &fixture.Metrics{},
				RunSpans: noSpans{},
				Now:      func() time.Time { return noon },
				Log:      discard,
			}
			_, err := outbox.Handle(t.Context(), begins(task).Event())
			if function.IsPermanent(err) != test.permanent || (err == nil) != (test.err == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An answer about Jobs is repeated by jobsource, and any other one by the Broker.
func TestFinishedAnswerWithoutJobsIsRepeatedUntilItIsSent(t *testing.T) {
	mistake := ends(task, keptn.Errored("no"))
	completed := mistake
	completed.Jobs = []protocol.Job{{Name: "job-1"}}
	for name, test := range map[string]struct {
		answer   protocol.Answer
		dropped  bool
		repeated bool
	}{
		"a mistake that waits for its started event": {mistake, true, true},
		"a mistake that was sent":                    {mistake, false, false},
		"a result that waits":                        {completed, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			outbox := &Outbox{
				Keptn: &delivered{dropped: test.dropped}, Journal: &journal{}, IntegrationID: integrationID, Runs: noRuns{}, RunSpans: noSpans{},
				Metrics: &fixture.Metrics{}, Now: func() time.Time { return noon }, Log: discard,
			}
			reply, err := outbox.Handle(t.Context(), test.answer.Event())
			if reply != nil || function.IsPermanent(err) || (err != nil) != test.repeated {
				t.Errorf("got %v, %v", reply, err)
			}
		})
	}
}

// A run is reported only when Keptn has counted its result. A run that begins while its sequence is aborted,
// and that nobody tracks yet, is cancelled.
func TestOutboxAnswersForTheRun(t *testing.T) {
	started, finished := begins(task), ends(task, keptn.Errored(""))
	tests := []struct {
		name             string
		answer           protocol.Answer
		settled, aborted bool
		want             string
	}{
		{name: "Keptn has counted its result", answer: finished, settled: true, want: "1-reported"},
		{name: "Keptn has only taken its result", answer: finished},
		{name: "an ended run of an aborted sequence", answer: finished, settled: true, aborted: true, want: "1-reported"},
		{name: "a started run", answer: started},
		{name: "a started run of an aborted sequence", answer: started, settled: true, aborted: true, want: "1-cancelled"},
		{name: "a started run with a recorded result", answer: started, settled: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keptnsSide := &delivered{settled: test.settled, aborted: test.aborted}
			outbox := &Outbox{
				RunSpans:      noSpans{},
				Metrics:       &fixture.Metrics{},
				Keptn:         keptnsSide,
				Journal:       &journal{},
				IntegrationID: integrationID,
				Runs:          noRuns{},
				Source:        "ours",
				Now:           func() time.Time { return noon },
				Log:           discard,
			}
			reply, err := outbox.Handle(t.Context(), test.answer.Event())
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
