package bridge

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// Stream exchanges events with Keptn where there is something better than its
// HTTP API, as NATSTransport does.
type Stream interface {
	keptn.Sender
	// Receive gives triggered events that are subscribed to to take until the context
	// ends; one that could not be taken it gives again.
	Receive(ctx context.Context, subscriptions *Subscriptions, take Take) error
	// MaxBytes is the largest event that it takes, 0 if it is not known.
	MaxBytes() int
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
	// Elector elects one of several bridges; nil where there is only one.
	Elector Elector
	// Peers makes requests to the bridge that is elected.
	Peers *http.Client
	// Uninstalled says whether the installation is being taken away.
	Uninstalled func(ctx context.Context) bool
	Tracer      trace.Tracer
	Meter       metric.Meter
	Now         func() time.Time
	// Jitter returns a random part of a duration.
	Jitter func(time.Duration) time.Duration
	Log    *slog.Logger
}

// Elector elects one of several bridges, as Election does.
type Elector interface {
	// Run leads once this bridge is elected, with a context that ends when it is no
	// longer.
	Run(ctx context.Context, lead func(context.Context) error) error
	// Holder is the address of the bridge that is elected.
	Holder() string
}

const (
	// countInterval and countLimit are how a delivery waits for Keptn to dispatch a
	// task or to count an event; after that the Broker delivers it again.
	countInterval = 50 * time.Millisecond
	countLimit    = 3 * time.Second
	// leastActiveInterval and mostActiveInterval bound the time between two looks
	// whether Keptn still waits for the tasks that run; between them it is the poll's.
	leastActiveInterval = 500 * time.Millisecond
	mostActiveInterval  = 2 * time.Second
)

// New wires a bridge.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	client, log := dependencies.Keptn, dependencies.Log
	subscriptions := NewSubscriptions(client, configuration.Integration(), configuration.PingInterval, dependencies.Uninstalled, log)
	active := NewActive(client, client, dependencies.Broker, min(max(configuration.PollInterval, leastActiveInterval), mostActiveInterval), dependencies.Tracer, dependencies.Now, log)
	inbox := NewInbox(dependencies.Broker, client, subscriptions, active, configuration.ResyncInterval, dependencies.Tracer, dependencies.Now, log)
	poller := &Poller{
		Lister: client, Subscriptions: subscriptions, Take: inbox.Take,
		Interval: configuration.PollInterval, Alone: dependencies.Stream == nil, Jitter: dependencies.Jitter, Log: log,
	}
	loops := []func(context.Context) error{subscriptions.Run, poller.Run, active.Run}
	sender, verify, most := keptn.Sender(client), true, func() int { return 0 }
	if stream := dependencies.Stream; stream != nil {
		// A stream acknowledges; listing only finds what it did not bring.
		sender, verify, most = stream, false, stream.MaxBytes
		poller.Interval = configuration.ResyncInterval
		loops = append(loops, func(ctx context.Context) error { return stream.Receive(ctx, subscriptions, inbox.Take) })
	}
	reporter := keptn.NewReporter(NewFitting(sender, configuration.MaxEventBytes, most, log), client, verify,
		keptn.Wait{Interval: countInterval, Limit: countLimit}, dependencies.Now, dependencies.Meter, log)
	outbox := &Outbox{Keptn: reporter, Journal: client, IntegrationID: subscriptions.ID, Active: active, Now: dependencies.Now, Log: log}
	gateway := &Gateway{
		Resources: client,
		Counter:   client,
		Reviewer:  dependencies.Reviewer,
		Grants:    &Grants{Key: dependencies.GrantKey, Lifetime: configuration.GrantLifetime, Now: dependencies.Now},
		Subjects:  configuration.GrantSubjects,
		Cache:     NewFileCache(),
		Log:       log,
	}
	handlers := map[string]function.Handler{
		"/keptn":       outbox.Handle,
		"/undelivered": outbox.HandleUndelivered,
		"/active":      active.Handle,
	}
	if dependencies.Elector != nil {
		loops = dependencies.elected(handlers, loops)
	}
	return function.Program{Handlers: handlers, Routes: gateway.Routes(), Loops: loops}
}

// elected has handlers and loops work only while this bridge is elected. Files are
// served by every bridge.
func (dependencies Dependencies) elected(handlers map[string]function.Handler, loops []func(context.Context) error) []func(context.Context) error {
	gate := &Gate{Holder: dependencies.Elector.Holder, HTTP: dependencies.Peers}
	for path, handle := range handlers {
		handlers[path] = gate.Handler(path, handle)
	}
	return []func(context.Context) error{func(ctx context.Context) error {
		return dependencies.Elector.Run(ctx, func(ctx context.Context) error {
			gate.Open(ctx)
			group, ctx := errgroup.WithContext(ctx)
			for _, loop := range loops {
				group.Go(func() error { return loop(ctx) })
			}
			return group.Wait()
		})
	}}
}
