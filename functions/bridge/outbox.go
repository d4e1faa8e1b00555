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

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// Deliverer gives Keptn a started or finished event, as keptn.Reporter does.
type Deliverer interface {
	Deliver(ctx context.Context, outgoing event.Event) error
}

// Outbox takes events from the Broker to Keptn.
type Outbox struct {
	Keptn  Deliverer
	Active *Active
	Now    func() time.Time
	Log    *slog.Logger
}

// Handle gives one started or finished event to Keptn. An error that is not
// permanent has the Broker deliver it again.
func (outbox *Outbox) Handle(ctx context.Context, outgoing event.Event) (*event.Event, error) {
	task, err := keptn.TaskOf(outgoing)
	if err != nil {
		return nil, function.Permanent(err)
	}
	if err := outbox.deliver(ctx, withoutRouting(outgoing)); err != nil {
		return nil, err
	}
	if _, phase, _ := keptn.ParseType(outgoing.Type()); phase == keptn.Started {
		outbox.Active.Add(task, true)
	} else {
		outbox.Active.Remove(task)
	}
	return nil, nil
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
	err := outbox.Keptn.Deliver(ctx, outgoing)
	var status *keptn.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			return function.Permanent(err)
		}
	}
	return err
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
