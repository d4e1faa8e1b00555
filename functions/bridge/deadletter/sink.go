package deadletter

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
)

// Sink receives events that the Broker could not deliver.
type Sink struct {
	// Ask asks the watcher for the result of a task's run, as intake.Inbox does.
	Ask func(ctx context.Context, task keptn.Task, reason string) error
	// Deliver delivers an answer to Keptn, as report.Outbox does.
	Deliver func(ctx context.Context, answer protocol.Answer) (*event.Event, error)
	// BrokerURL is the Broker's address.
	BrokerURL string
	// Count counts the received events.
	Count func(ctx context.Context, eventType string)
	Now   func() time.Time
	Log   *slog.Logger
}

// Attributes that Knative adds to an undelivered event.
const (
	errorCodeExtension        = "knativeerrorcode"
	errorDataExtension        = "knativeerrordata"
	errorDestinationExtension = "knativeerrordest"
)

// Extensions returns the names of these attributes.
func Extensions() []string {
	return []string{errorCodeExtension, errorDataExtension, errorDestinationExtension}
}

// Handle ends a task as errored if no executor accepted its triggered event, by asking the watcher: there may
// be Jobs all the same. If an executor accepted the event and only its reply was not delivered, Handle does
// nothing, because the inbox resends the event. The same holds if the Broker does not report an executor's
// answer: no executor was asked. (Knative's filter replaces an event that it cannot read in time, even for a
// Trigger that does not want it.) RabbitMQ's Broker names the executor, with its status, even if only the reply
// failed. An observed event that its executor refused becomes an entry of Keptn's log. Any other event is refused,
// so that its sender keeps and resends it.
func (s *Sink) Handle(ctx context.Context, returned event.Event) (*event.Event, error) {
	s.Count(ctx, returned.Type())
	task, returned, err := keptn.ParseReceived(returned)
	switch {
	case errors.Is(err, keptn.ErrTriggersNothing):
		return nil, err
	case err != nil:
		return nil, function.Permanent(err)
	}
	status := statusOf(returned)
	reason := reasonOf(returned, status)
	destination, _ := returned.Extensions()[errorDestinationExtension].(string)
	if s.isBroker(destination) || isSuccess(status) {
		s.Log.WarnContext(ctx, "reply of an executor not delivered", "id", returned.ID(), "type", returned.Type(), "reason", reason)
		return nil, nil
	}
	if _, isReported := returned.Extensions()[errorCodeExtension]; !isReported {
		s.Log.WarnContext(ctx, "event may not have reached its executor; triggered events are resent", "id", returned.ID(), "type", returned.Type())
		return nil, nil
	}
	s.Log.WarnContext(ctx, "no executor accepted a task", "id", returned.ID(), "type", returned.Type(), "reason", reason)
	if task.Observed {
		return s.Deliver(ctx, protocol.Log(task, s.Now(), fmt.Sprintf("No executor accepted event %s: %s", returned.Type(), reason), ""))
	}
	return nil, s.Ask(ctx, task, "No executor accepted this task: "+reason)
}

func isSuccess(status int) bool {
	return http.StatusOK <= status && status < http.StatusMultipleChoices
}

// isBroker reports whether an address is the Broker's, or its channel's.
func (s *Sink) isBroker(destination string) bool {
	given, err := url.Parse(destination)
	if err != nil || given.Host == "" {
		return false
	}
	broker, err := url.Parse(s.BrokerURL)
	if err != nil {
		return false
	}
	return given.Host == broker.Host || strings.TrimSuffix(given.Path, "/") == strings.TrimSuffix(broker.Path, "/") && len(broker.Path) > 1
}

// statusOf returns the status of the executor's answer, 0 if it did not answer. RabbitMQ's Broker reports -1 then (eventing-rabbitmq,
// pkg/dispatcher).
func statusOf(returned event.Event) int {
	status, err := types.ToInteger(returned.Extensions()[errorCodeExtension])
	if err != nil || status < 0 {
		return 0
	}
	return int(status)
}

// reasonOf returns what is known of the executor's answer. RabbitMQ's Broker reports no text.
func reasonOf(returned event.Event, status int) string {
	reason, otherwise := "no answer", ""
	if status > 0 {
		reason, otherwise = fmt.Sprintf("status %d", status), "; the executor's log has the reason"
	}
	encoded, _ := returned.Extensions()[errorDataExtension].(string)
	if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(decoded) > 0 {
		return reason + ": " + string(decoded)
	}
	return reason + otherwise
}
