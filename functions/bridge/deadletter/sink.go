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

// Sink takes the events that the Broker could not deliver.
type Sink struct {
	// Ask asks the watcher for the result of a task's run, as intake.Inbox does.
	Ask func(ctx context.Context, task keptn.Task, reason string) error
	// Deliver delivers an answer to Keptn, as report.Outbox does.
	Deliver func(ctx context.Context, answer protocol.Answer) (*event.Event, error)
	// BrokerURL is the Broker's address.
	BrokerURL string
	// Count counts the events that were returned.
	Count func(ctx context.Context, eventType string)
	Now   func() time.Time
	Log   *slog.Logger
}

// The attributes that Knative adds to an event that it could not deliver.
const (
	errorCodeExtension        = "knativeerrorcode"
	errorDataExtension        = "knativeerrordata"
	errorDestinationExtension = "knativeerrordest"
)

// Extensions are the names of those attributes.
func Extensions() []string {
	return []string{errorCodeExtension, errorDataExtension, errorDestinationExtension}
}

// Handle has a task ended as errored, with the reason, whose triggered event
// no executor could take: the watcher does it, who knows whether there are Jobs all the
// same. Where an executor did take it, and only its reply could not be delivered to the
// Broker, nothing is done: the event is given again after a while. So it is where the
// Broker does not say what the executor answered: it has not asked one. (Knative's filter
// refuses an event for good whose bytes it could not read in time, also that of a Trigger
// which does not want the event; others may have taken it meanwhile.) Of an event that was
// only observed, and that its executor did not take, Keptn's log is told. Any other event is refused: it has to stay with its
// sender, who sends it again.
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
		s.Log.WarnContext(ctx, "the reply of an executor could not be delivered", "id", returned.ID(), "type", returned.Type(), "reason", reason)
		return nil, nil
	}
	if _, isAnswered := returned.Extensions()[errorCodeExtension]; !isAnswered {
		s.Log.WarnContext(ctx, "an event may not have come to its executor; one that triggers a task is given again", "id", returned.ID(), "type", returned.Type())
		return nil, nil
	}
	s.Log.WarnContext(ctx, "no executor could take a task", "id", returned.ID(), "type", returned.Type(), "reason", reason)
	if task.Observed {
		return s.Deliver(ctx, protocol.Log(task, s.Now(), fmt.Sprintf("Job Executor could not take event %s: %s", returned.Type(), reason), ""))
	}
	return nil, s.Ask(ctx, task, "Job Executor could not take this task: "+reason)
}

// isBroker says whether an address is the Broker's, or one of the channel behind it.
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
