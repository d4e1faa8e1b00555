package bridge

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// Stream exchanges events with Keptn where there is something better than its
// HTTP API, as NATSTransport does.
type Stream interface {
	keptn.Sender
	// Receive gives triggered events to take until the context ends; one that
	// could not be taken it gives again.
	Receive(ctx context.Context, take Take) error
}

// Take takes a triggered event from Keptn. An error means that it has to be
// offered again.
type Take func(ctx context.Context, triggered event.Event, origin Origin) error

// Dependencies are what a bridge stands on.
type Dependencies struct {
	Keptn *keptn.Client
	// Stream is nil where events are exchanged over HTTP.
	Stream   Stream
	Broker   Sender
	Reviewer Reviewer
	// GrantKey signs grants.
	GrantKey []byte
	Tracer   trace.Tracer
	Now      func() time.Time
	// Jitter returns a random part of a duration.
	Jitter func(time.Duration) time.Duration
	Log    *slog.Logger
}

const (
	// countInterval and countLimit are how a delivery waits for Keptn to dispatch a
	// task or to count an event; after that the Broker delivers it again.
	countInterval = 50 * time.Millisecond
	countLimit    = 3 * time.Second
	// activeInterval is the time between two looks whether Keptn still waits for
	// the tasks that run.
	activeInterval = 2 * time.Second
)

// New wires a bridge.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	client, log := dependencies.Keptn, dependencies.Log
	subscriptions := NewSubscriptions(client, configuration.Integration(), configuration.PingInterval, log)
	active := NewActive(client, client, dependencies.Broker, activeInterval, dependencies.Tracer, dependencies.Now, log)
	inbox := NewInbox(dependencies.Broker, client, subscriptions, active, configuration.ResyncInterval, dependencies.Tracer, dependencies.Now, log)
	poller := &Poller{
		Lister: client, Subscriptions: subscriptions, Take: inbox.Take,
		Interval: configuration.PollInterval, Jitter: dependencies.Jitter, Log: log,
	}
	loops := []func(context.Context) error{subscriptions.Run, poller.Run, active.Run}
	sender, verify := keptn.Sender(client), true
	if dependencies.Stream != nil {
		// A stream acknowledges; listing only finds what it did not bring.
		sender, verify = dependencies.Stream, false
		poller.Interval = configuration.ResyncInterval
		loops = append(loops, func(ctx context.Context) error { return dependencies.Stream.Receive(ctx, inbox.Take) })
	}
	reporter := keptn.NewReporter(sender, client, verify, keptn.Wait{Interval: countInterval, Limit: countLimit}, dependencies.Now, log)
	outbox := &Outbox{Keptn: reporter, Active: active, Now: dependencies.Now, Log: log}
	gateway := &Gateway{
		Resources: client,
		Counter:   client,
		Reviewer:  dependencies.Reviewer,
		Grants:    &Grants{Key: dependencies.GrantKey, Lifetime: configuration.GrantLifetime, Now: dependencies.Now},
		Subjects:  configuration.GrantSubjects,
		Cache:     NewFileCache(),
		Log:       log,
	}
	return function.Program{
		Handlers: map[string]function.Handler{
			"/keptn":       outbox.Handle,
			"/undelivered": outbox.HandleUndelivered,
			"/active":      active.Handle,
		},
		Routes: gateway.Routes(),
		Loops:  loops,
	}
}
