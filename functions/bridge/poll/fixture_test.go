package poll

import (
	"time"

	"github.com/keptn/go-utils/pkg/api/models"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/test/fixture"
)

var discard, errDown, task, triggered = fixture.Discard, fixture.ErrDown, fixture.Task, fixture.Triggered

// noRuns knows no runs.
type noRuns struct{}

func (noRuns) IsThere(keptn.Task) bool { return false }

func subscribed(subscriptions ...models.EventSubscription) *intake.Subscriptions {
	return intake.NewSubscriptions(nil, models.Integration{Subscriptions: subscriptions}, time.Second, nil, discard)
}

func to(eventType string) models.EventSubscription { return models.EventSubscription{Event: eventType} }

func newInbox(broker protocol.Sender, counter keptn.Counter) *intake.Inbox {
	return &intake.Inbox{
		Metrics: &fixture.Metrics{},
		Broker:  broker, Counter: counter, Reporter: fixture.Starter(false), Subscriptions: subscribed(to("sh.keptn.event.test.triggered")),
		Runs: noRuns{}, Source: "ours", Resend: time.Minute, Tracer: noop.NewTracerProvider().Tracer(""), Now: time.Now, Log: discard,
	}
}
