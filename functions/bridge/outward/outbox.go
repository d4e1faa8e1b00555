package outward

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/function"
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

// Outbox takes events from the Broker to Keptn.
type Outbox struct {
	Keptn   Deliverer
	Journal Journal
	// IntegrationID is that of the registration, empty if there is none yet.
	IntegrationID func() string
	Runs          *Runs
	// Ask asks the watcher for the result of a task's run, with a reason why there may be
	// none.
	Ask func(ctx context.Context, task keptn.Task, reason string) error
	// BrokerURL is the Broker's address.
	BrokerURL string
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
	// An error of a task appears in Keptn's page under the integration, and what a silent
	// action has to say. The task has ended without that, too.
	told := []string{answer.Logged}
	if answer.Status == keptn.StatusErrored {
		told = append(told, answer.Message)
	}
	for _, message := range told {
		if message == "" || !delivery.Sent {
			continue
		}
		if err := outbox.note(ctx, task.LogEntry(outgoing.Time(), message)); err != nil {
			outbox.Log.WarnContext(ctx, "adding to Keptn's log failed", "type", outgoing.Type(), "error", err)
		}
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
	case answer.Phase == keptn.Finished:
		return new(run.Reported(outbox.Source, run.ID(task.TriggeredID), outbox.Now())), nil
	case delivery.Aborted:
		return outbox.Runs.cancel(ctx, task), nil
	}
	return nil, nil
}

// maxEntryBytes bounds the message of an entry in Keptn's log, which is for a look;
// the finished event has more.
const maxEntryBytes = 8 << 10

// noteOnce adds the entry that an event tells to Keptn's log, unless it has done so for
// the event before.
func (outbox *Outbox) noteOnce(ctx context.Context, told event.Event) error {
	entry, err := keptn.ParseLogError(told)
	if err != nil {
		return function.Permanent(err)
	}
	noted, release, err := outbox.noted.Hold(ctx, told.ID())
	if err != nil {
		return err
	}
	defer release()
	if *noted {
		return nil
	}
	err = outbox.note(ctx, entry)
	*noted = err == nil
	return err
}

// note adds an entry to Keptn's log.
func (outbox *Outbox) note(ctx context.Context, entry models.LogEntry) error {
	if entry.IntegrationID = outbox.IntegrationID(); entry.IntegrationID == "" {
		return errors.New("the integration is not registered with Keptn yet")
	}
	entry.Message = run.Shorten(entry.Message, "the task's finished event", maxEntryBytes)
	return outbox.Journal.Log(ctx, entry)
}

// The attributes that Knative adds to an event that it could not deliver.
const (
	errorCodeExtension        = "knativeerrorcode"
	errorDataExtension        = "knativeerrordata"
	errorDestinationExtension = "knativeerrordest"
)

// HandleUndelivered has a task ended as errored, with the reason, whose triggered event
// no executor could take: the watcher does it, who knows whether there are Jobs all the
// same. Where an executor did take it, and only its reply could not be delivered to the
// Broker, nothing is done: the event is given again after a while. Any other event is
// refused: it has to stay with its sender, who sends it again.
func (outbox *Outbox) HandleUndelivered(ctx context.Context, undelivered event.Event) (*event.Event, error) {
	task, phase, err := keptn.ParseTask(undelivered)
	if err != nil {
		return nil, function.Permanent(err)
	}
	if phase != keptn.Triggered {
		return nil, fmt.Errorf("event %s of type %s can't be given up", undelivered.ID(), undelivered.Type())
	}
	reason := undeliveredReason(undelivered)
	if destination, _ := undelivered.Extensions()[errorDestinationExtension].(string); outbox.isBroker(destination) {
		outbox.Log.WarnContext(ctx, "the reply of an executor could not be delivered", "id", undelivered.ID(), "type", undelivered.Type(), "reason", reason)
		return nil, nil
	}
	outbox.Log.WarnContext(ctx, "no executor could take a task", "id", undelivered.ID(), "type", undelivered.Type(), "reason", reason)
	return nil, outbox.Ask(ctx, task, "Job Executor could not take this task: "+reason)
}

// isBroker says whether an address is the Broker's, or one of the channel behind it.
func (outbox *Outbox) isBroker(destination string) bool {
	given, err := url.Parse(destination)
	if err != nil || given.Host == "" {
		return false
	}
	broker, err := url.Parse(outbox.BrokerURL)
	if err != nil {
		return false
	}
	return given.Host == broker.Host || strings.TrimSuffix(given.Path, "/") == strings.TrimSuffix(broker.Path, "/") && len(broker.Path) > 1
}

func undeliveredReason(undelivered event.Event) string {
	reason := "no answer"
	if code := undelivered.Extensions()[errorCodeExtension]; code != nil {
		reason = fmt.Sprintf("status %v", code)
	}
	encoded, _ := undelivered.Extensions()[errorDataExtension].(string)
	if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(decoded) > 0 {
		reason += ": " + string(decoded)
	}
	return reason
}
