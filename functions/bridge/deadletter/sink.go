package deadletter

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
// Trigger that does not want it.) An observed event that its executor refused becomes an entry of Keptn's log.
// Any other event is refused, so that its sender keeps and resends it.
func (s *Sink) Handle(ctx context.Context, returned event.Event) (*event.Event, error) {
	s.Count(ctx, returned.Type())
	task, returned, err := keptn.ParseReceived(returned)
	switch {
	case errors.Is(err, keptn.ErrTriggersNothing):
		return nil, err
	case err != nil:
		return nil, function.Permanent(err)
	}
	reason := reasonOf(returned)
	if destination, _ := returned.Extensions()[errorDestinationExtension].(string); s.isBroker(destination) {
		s.Log.WarnContext(ctx, "reply of an executor not delivered", "id", returned.ID(), "type", returned.Type(), "reason", reason)
		return nil, nil
	}
	if _, isAnswered := returned.Extensions()[errorCodeExtension]; !isAnswered {
		s.Log.WarnContext(ctx, "event may not have reached its executor; triggered events are resent", "id", returned.ID(), "type", returned.Type())
		return nil, nil
	}
	s.Log.WarnContext(ctx, "no executor accepted a task", "id", returned.ID(), "type", returned.Type(), "reason", reason)
	if task.Observed {
		return s.Deliver(ctx, protocol.Log(task, s.Now(), fmt.Sprintf("No executor accepted event %s: %s", returned.Type(), reason), ""))
	}
	return nil, s.Ask(ctx, task, "No executor accepted this task: "+reason)
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

func reasonOf(returned event.Event) string {
	reason := "no answer"
	if code := returned.Extensions()[errorCodeExtension]; code != nil {
		reason = fmt.Sprintf("status %v", code)
	}
	encoded, _ := returned.Extensions()[errorDataExtension].(string)
	if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(decoded) > 0 {
		reason += ": " + string(decoded)
	}
	return reason
}
