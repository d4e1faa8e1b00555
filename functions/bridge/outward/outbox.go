package outward

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobphase"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Sender gives an event to Keptn, whose success does not mean that Keptn counts it, or to
// the Broker, which has taken it then.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Deliverer gives Keptn a started or finished event, as Reporter does.
type Deliverer interface {
	Deliver(ctx context.Context, answer keptn.Answer) (Delivery, error)
}

// Journal is Keptn's log of integrations, as api.Client writes it.
type Journal interface {
	Log(ctx context.Context, entry models.LogEntry) error
}

// RunSpans writes the span of a task's run once it is over, as runspan.Writer does.
type RunSpans interface {
	Write(ctx context.Context, task keptn.Task, result keptn.RunResult, message string)
}

// Outbox takes events from the Broker to Keptn.
type Outbox struct {
	Keptn   Deliverer
	Journal Journal
	// IntegrationID is that of the registration, empty if there is none yet.
	IntegrationID func() string
	Runs          *Runs
	RunSpans      RunSpans
	Metrics       Metrics
	// Source is that of the bridge's events.
	Source string
	Now    func() time.Time
	Log    *slog.Logger

	noted memory.Memory[bool]
}

// Handle gives one started, finished or log event to Keptn. It replies that the run is
// reported once Keptn has its result, and that it is cancelled if it began as its sequence
// was aborted. An error that is not permanent has the Broker deliver it again.
func (outbox *Outbox) Handle(ctx context.Context, outgoing event.Event) (*event.Event, error) {
	if outgoing.Type() == keptn.LogErrorType {
		return nil, outbox.noteOnce(ctx, outgoing)
	}
	answer, err := keptn.ParseAnswer(outgoing)
	if err != nil {
		return nil, function.Permanent(err)
	}
	task := answer.Task
	delivery, err := outbox.Keptn.Deliver(ctx, answer)
	if delivery.Refusal != "" && answer.Phase == keptn.Finished {
		answer.Status, answer.RunResult, answer.Message = keptn.StatusErrored, keptn.RunError, RefusalMessage(task, delivery.Refusal)
	}
	if delivery.Sent {
		outbox.tell(ctx, answer, outgoing.Time())
		outbox.Metrics.Jobs(ctx, task, jobphase.Of(outgoing))
	}
	switch said := saidOf(err); {
	case said == refused || said == tooLarge:
		return nil, function.Permanent(err)
	case err != nil:
		return nil, err
	case !delivery.Settled && answer.Phase == keptn.Started:
		outbox.Runs.Add(task)
		return nil, nil
	case !delivery.Settled:
		return nil, nil
	}
	outbox.Runs.Remove(task)
	switch {
	case delivery.Aborted:
		outbox.RunSpans.Write(ctx, task, keptn.RunCancellation, "")
	case answer.Phase == keptn.Finished:
		outbox.RunSpans.Write(ctx, task, answer.RunResult, answer.Message)
	}
	switch {
	case answer.Phase == keptn.Finished:
		return new(run.Reported(outbox.Source, run.ID(task.TriggeredID), task.Context, outbox.Now())), nil
	case delivery.Aborted:
		return outbox.Runs.cancel(ctx, task), nil
	}
	return nil, nil
}

// maxEntryBytes bounds the message of an entry in Keptn's log, which is for a look;
// the finished event has more.
const maxEntryBytes = 8 << 10

// tell adds to Keptn's log, which its page of the integration shows, the error of a task
// and what a silent action has to say. The task has ended without that, too.
func (outbox *Outbox) tell(ctx context.Context, answer keptn.Answer, at time.Time) {
	told := []string{answer.Logged}
	if answer.Status == keptn.StatusErrored {
		told = append(told, answer.Message)
	}
	for _, message := range told {
		if message == "" {
			continue
		}
		if err := outbox.note(ctx, answer.Task.LogEntry(at, message)); err != nil {
			outbox.Log.WarnContext(ctx, "adding to Keptn's log failed", "type", answer.Event.Type(), "error", err)
		}
	}
}

// noteOnce adds the entry that an event tells to Keptn's log, unless it has done so for
// the event before.
func (outbox *Outbox) noteOnce(ctx context.Context, told event.Event) error {
	logged, err := keptn.ParseLogError(told)
	if err != nil {
		return function.Permanent(err)
	}
	if logged.RunResult != "" {
		defer outbox.RunSpans.Write(ctx, logged.Task, logged.RunResult, logged.Message)
	}
	noted, release, err := outbox.noted.Hold(ctx, told.ID())
	if err != nil {
		return err
	}
	defer release()
	if *noted {
		return nil
	}
	err = outbox.note(ctx, logged.Entry())
	if *noted = err == nil; *noted {
		outbox.Metrics.Jobs(ctx, logged.Task, jobphase.Of(told))
	}
	return err
}

// note adds an entry to Keptn's log.
func (outbox *Outbox) note(ctx context.Context, entry models.LogEntry) error {
	if entry.IntegrationID = outbox.IntegrationID(); entry.IntegrationID == "" {
		return errors.New("the integration is not registered with Keptn yet")
	}
	entry.Message = excerpt.Shorten(entry.Message, "the task's finished event", maxEntryBytes)
	return outbox.Journal.Log(ctx, entry)
}
