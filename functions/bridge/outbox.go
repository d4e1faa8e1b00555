package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Deliverer gives Keptn a started or finished event, as keptn.Reporter does.
type Deliverer interface {
	Deliver(ctx context.Context, outgoing event.Event) (sent bool, err error)
}

// Journal is Keptn's log of integrations, as keptn.Client writes it.
type Journal interface {
	Log(ctx context.Context, entry models.LogEntry) error
}

// Outbox takes events from the Broker to Keptn.
type Outbox struct {
	Keptn   Deliverer
	Journal Journal
	// IntegrationID is that of the registration, empty if there is none yet.
	IntegrationID func() string
	Active        *Active
	Now           func() time.Time
	Log           *slog.Logger
}

// Handle gives one started, finished or log event to Keptn. An error that is not
// permanent has the Broker deliver it again.
func (outbox *Outbox) Handle(ctx context.Context, outgoing event.Event) (*event.Event, error) {
	if outgoing.Type() == keptn.LogErrorType {
		return nil, outbox.note(ctx, outgoing)
	}
	task, err := keptn.TaskOf(outgoing)
	if err != nil {
		return nil, function.Permanent(err)
	}
	_, phase, _ := keptn.ParseType(outgoing.Type())
	if phase == keptn.Finished {
		// Before it is finished: that Keptn no longer waits must not look like an abort.
		outbox.Active.Remove(task)
	}
	err = outbox.deliver(ctx, withoutRouting(outgoing))
	if phase == keptn.Started && err == nil || phase == keptn.Finished && err != nil {
		outbox.Active.Add(task, true)
	}
	return nil, err
}

// withoutRouting leaves out what the Broker and the Triggers added to an event.
func withoutRouting(routed event.Event) event.Event {
	outgoing := routed.Clone()
	for name := range routed.Extensions() {
		switch name {
		case keptn.ContextExtension, keptn.TriggeredIDExtension, keptn.GitCommitIDExtension, keptn.SpecVersionExtension:
		default:
			outgoing.SetExtension(name, nil)
		}
	}
	return outgoing
}

func (outbox *Outbox) deliver(ctx context.Context, outgoing event.Event) error {
	sent, err := outbox.Keptn.Deliver(ctx, outgoing)
	if err == nil && sent {
		// An error of a task appears in Keptn's page under the integration. The task has
		// ended without that, too.
		if err := outbox.note(ctx, outgoing); err != nil {
			outbox.Log.WarnContext(ctx, "adding to Keptn's log failed", "type", outgoing.Type(), "error", err)
		}
	}
	var status *keptn.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			return function.Permanent(err)
		}
	}
	return err
}

// maxEntryBytes bounds the message of an entry in Keptn's log, which is for a look;
// the finished event has more.
const maxEntryBytes = 8 << 10

// note adds to Keptn's log what an event says of an error, if it does.
func (outbox *Outbox) note(ctx context.Context, told event.Event) error {
	entry, ok, err := keptn.LogEntryOf(told)
	if err != nil {
		return function.Permanent(err)
	}
	if !ok {
		return nil
	}
	if entry.IntegrationID = outbox.IntegrationID(); entry.IntegrationID == "" {
		return errors.New("the integration is not registered with Keptn yet")
	}
	excerpt := run.Excerpt{Limit: maxEntryBytes, Whole: "the task's finished event"}
	_, _ = excerpt.Write([]byte(entry.Message))
	entry.Message = excerpt.String()
	return outbox.Journal.Log(ctx, entry)
}

// The attributes that Knative adds to an event that it could not deliver.
const (
	errorCodeExtension = "knativeerrorcode"
	errorDataExtension = "knativeerrordata"
)

// HandleUndelivered ends a task whose triggered event no executor could take, as
// errored and with the reason. Any other event is refused: it has to stay with
// its sender, who sends it again.
func (outbox *Outbox) HandleUndelivered(ctx context.Context, undelivered event.Event) (*event.Event, error) {
	task, err := keptn.TaskOf(undelivered)
	if err != nil {
		return nil, function.Permanent(err)
	}
	if _, phase, _ := keptn.ParseType(undelivered.Type()); phase != keptn.Triggered {
		return nil, fmt.Errorf("event %s of type %s can't be given up", undelivered.ID(), undelivered.Type())
	}
	reason := undeliveredReason(undelivered)
	outbox.Log.WarnContext(ctx, "no executor could take a task", "id", undelivered.ID(), "type", undelivered.Type(), "reason", reason)
	return nil, outbox.deliver(ctx, task.Finished(outbox.Now(), keptn.Errored("Job Executor could not take this task: "+reason)))
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
