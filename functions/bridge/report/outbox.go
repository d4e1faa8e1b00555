package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// Deliverer delivers an answer to Keptn, as Reporter does.
type Deliverer interface {
	Deliver(ctx context.Context, answer protocol.Answer) (Delivery, error)
}

// Journal is Keptn's log of integrations, as api.Client writes it.
type Journal interface {
	Log(ctx context.Context, entry models.LogEntry) error
}

// RunSpans writes the spans of ended tasks and Jobs, as runspan.Writer does.
type RunSpans interface {
	Write(ctx context.Context, task keptn.Task, result keptn.RunResult, message string)
	Jobs(ctx context.Context, task keptn.Task, jobs []protocol.Job)
}

// Runs tracks the runs that Keptn waits for, as runs.Runs does.
type Runs interface {
	Add(task keptn.Task)
	Remove(task keptn.Task)
	Cancel(ctx context.Context, task keptn.Task) event.Event
}

// Outbox delivers the answers that executors and the watcher published.
type Outbox struct {
	Keptn   Deliverer
	Journal Journal
	// IntegrationID returns the id of the registration, empty before the first one.
	IntegrationID func() string
	Runs          Runs
	RunSpans      RunSpans
	Metrics       Metrics
	// Source is the source of the bridge's notices.
	Source string
	Now    func() time.Time
	Log    *slog.Logger

	logged memory.Memory[bool]
}

// errUncounted means that a finished event waits for its started event. The Broker repeats the answer, because it
// mentions no Job whose completion jobsource would repeat.
var errUncounted = errors.New("Keptn has not counted the started event yet")

// Handle decodes one answer and delivers it. It replies that the run is reported once Keptn has counted the
// result, or that the run is cancelled if its sequence was aborted before the start. After a retriable error,
// the Broker redelivers the answer.
func (o *Outbox) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	answer, err := protocol.ParseAnswer(received)
	if err != nil {
		return nil, function.Permanent(err)
	}
	return o.Deliver(ctx, answer)
}

// Deliver is Handle for a decoded answer.
func (o *Outbox) Deliver(ctx context.Context, answer protocol.Answer) (*event.Event, error) {
	task := answer.Task
	o.RunSpans.Jobs(ctx, task, answer.Jobs)
	switch {
	case answer.Phase == protocol.JobsCancelled:
		return nil, nil
	case answer.IsLog():
		return nil, o.logOnce(ctx, answer)
	}
	delivery, err := o.Keptn.Deliver(ctx, answer)
	if delivery.Refusal != "" && answer.Phase == keptn.Finished {
		answer = protocol.Errored(task, answer.At, RefusalMessage(task, delivery.Refusal))
	}
	if delivery.Sent {
		o.logErrors(ctx, answer)
		o.Metrics.Jobs(ctx, task, answer.Jobs)
	}
	switch {
	case isRefusal(err):
		return nil, function.Permanent(err)
	case err != nil:
		return nil, err
	case !delivery.Settled && answer.Phase == keptn.Started:
		o.Runs.Add(task)
		return nil, nil
	case !delivery.Settled && !delivery.Sent && len(answer.Jobs) == 0:
		return nil, fmt.Errorf("send %s: %w", answer.EventType(), errUncounted)
	case !delivery.Settled:
		return nil, nil
	}
	o.Runs.Remove(task)
	switch {
	case delivery.Aborted:
		o.RunSpans.Write(ctx, task, keptn.RunCancellation, "")
	case answer.Phase == keptn.Finished:
		o.RunSpans.Write(ctx, task, answer.RunResult, answer.Outcome.Message)
	}
	switch {
	case answer.Phase == keptn.Finished:
		return new(protocol.Reported(o.Source, run.ID(task.TriggeredID), task.Context, o.Now())), nil
	case delivery.Aborted:
		return new(o.Runs.Cancel(ctx, task)), nil
	}
	return nil, nil
}

// maxEntryBytes bounds an entry of Keptn's log. The finished event has the whole message.
const maxEntryBytes = 8 << 10

// logErrors writes to Keptn's log, which its page of integrations shows, why a task is errored and what
// its silent actions reported. A failure is only logged: the task has ended anyway.
func (o *Outbox) logErrors(ctx context.Context, answer protocol.Answer) {
	messages := []string{answer.Logged}
	if answer.Outcome.Status == keptn.StatusErrored {
		messages = append(messages, answer.Outcome.Message)
	}
	for _, message := range messages {
		if message == "" {
			continue
		}
		if err := o.writeLog(ctx, answer.Task, answer.At, message); err != nil {
			o.Log.WarnContext(ctx, "writing to Keptn's log failed", "task", answer.Task.Name, "phase", answer.Phase, "error", err)
		}
	}
}

// logOnce writes the entry of a log answer, once.
func (o *Outbox) logOnce(ctx context.Context, answer protocol.Answer) error {
	if answer.RunResult != "" {
		defer o.RunSpans.Write(ctx, answer.Task, answer.RunResult, answer.Outcome.Message)
	}
	isLogged, release, err := o.logged.Hold(ctx, answer.Task.AnswerID(answer.Phase))
	if err != nil {
		return err
	}
	defer release()
	if *isLogged {
		return nil
	}
	err = o.writeLog(ctx, answer.Task, answer.At, answer.Outcome.Message)
	if *isLogged = err == nil; *isLogged {
		o.Metrics.Jobs(ctx, answer.Task, answer.Jobs)
	}
	return err
}

func (o *Outbox) writeLog(ctx context.Context, task keptn.Task, at time.Time, message string) error {
	entry := task.LogEntry(at, excerpt.Shorten(message, "the task's finished event", maxEntryBytes))
	if entry.IntegrationID = o.IntegrationID(); entry.IntegrationID == "" {
		return errors.New("the integration is not registered with Keptn yet")
	}
	return o.Journal.Log(ctx, entry)
}
