package bridge

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
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
	// Receive gives triggered events to take until the context ends; one that could not
	// be taken it gives again. It calls receiving each time when from now on no event is
	// missed.
	Receive(ctx context.Context, receiving func(), lanes *Lanes, take Take) error
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
	// task or to count an event; after that it is looked at again later.
	countInterval = 50 * time.Millisecond
	countLimit    = 3 * time.Second
	// deduplication is for how long Keptn's stream recognises an event that it is given
	// again: two minutes (recording 50-nats-participant), less some time on the way.
	deduplication = 90 * time.Second
	// leastActiveInterval and mostActiveInterval bound the time between two looks
	// whether Keptn still waits for the tasks that run; between them it is the poll's.
	leastActiveInterval = 500 * time.Millisecond
	mostActiveInterval  = 2 * time.Second
)

// SourceOf is the source of an installation's events: several installations on one
// Keptn tell by it which started events are their own.
func SourceOf(configuration Configuration, grantKey []byte) string {
	if len(grantKey) == 0 {
		return keptn.Source
	}
	const marked = 4
	mark := hmac.New(sha256.New, grantKey)
	_, _ = mark.Write([]byte(configuration.IntegrationName + "/" + configuration.Namespace))
	return keptn.Source + "-" + hex.EncodeToString(mark.Sum(nil)[:marked])
}

// New wires a bridge.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	source, now, log := SourceOf(configuration, dependencies.GrantKey), dependencies.Now, dependencies.Log
	own := *dependencies.Keptn
	own.Source = source
	client := &own
	subscriptions := NewSubscriptions(client, configuration.Integration(), configuration.PingInterval, dependencies.Uninstalled, log)
	sender, timing, most := keptn.Sender(client), keptn.Timing{Loss: configuration.LossTimeout, Interval: countInterval, Limit: countLimit}, func() int { return 0 }
	if stream := dependencies.Stream; stream != nil {
		sender, most, timing.Deduplication = stream, stream.MaxBytes, deduplication
	}
	// What a bridge before this one sent ends where this one's work begins, which is when
	// it is elected.
	var reporter deferred
	runs := &Runs{
		lister: client, counter: client, keptn: &reporter, broker: dependencies.Broker, source: source,
		interval: min(max(configuration.PollInterval, leastActiveInterval), mostActiveInterval),
		tracer:   dependencies.Tracer, now: now, log: log, tasks: map[string]knownRun{},
	}
	inbox := &Inbox{
		broker: dependencies.Broker, counter: client, reporter: &reporter, subscriptions: subscriptions, runs: runs, source: source,
		resend: configuration.ResyncInterval, tracer: dependencies.Tracer, now: now, log: log, taken: keptn.NewMemory[taken](rememberedEvents),
	}
	lanes := &Lanes{}
	poller := &Poller{
		Lister: client, Subscriptions: subscriptions, Take: inbox.Take, Lanes: lanes,
		Interval: configuration.PollInterval, Alone: dependencies.Stream == nil, Jitter: dependencies.Jitter, Log: log,
	}
	loops := []func(context.Context) error{subscriptions.Run, poller.Run, runs.Run}
	if stream := dependencies.Stream; stream != nil {
		// Listing only finds what the stream did not bring.
		poller.Interval = configuration.ResyncInterval
		loops = append(loops, func(ctx context.Context) error { return stream.Receive(ctx, poller.Soon, lanes, inbox.Take) })
	}
	begin := func() {
		reporter.Store(keptn.NewReporter(NewFitting(sender, configuration.MaxEventBytes, most, log), client, source, timing, now, dependencies.Meter, log))
	}
	outbox := &Outbox{
		Keptn: &reporter, Journal: client, IntegrationID: subscriptions.ID, Runs: runs, Ask: inbox.ask,
		BrokerURL: configuration.BrokerURL, Source: source, Now: now, Log: log,
	}
	gateway := &Gateway{
		Resources: client,
		Counter:   client,
		Reporter:  &reporter,
		Reviewer:  dependencies.Reviewer,
		Grants:    &Grants{Key: dependencies.GrantKey, Lifetime: configuration.GrantLifetime, Now: now},
		Subjects:  configuration.GrantSubjects,
		Cache:     NewFileCache(),
		Log:       log,
	}
	handlers := map[string]function.Handler{
		"/keptn":       outbox.Handle,
		"/undelivered": outbox.HandleUndelivered,
		"/active":      runs.Handle,
	}
	if dependencies.Elector != nil {
		loops = dependencies.elected(handlers, loops, begin)
	} else {
		begin()
	}
	return function.Program{Handlers: handlers, Routes: gateway.Routes(), Loops: loops}
}

// deferred is the reporter, which begins when the bridge is elected.
type deferred struct{ atomic.Pointer[keptn.Reporter] }

var errNotElected = errors.New("this bridge is not elected yet")

// Deliver is keptn.Reporter's.
func (reporter *deferred) Deliver(ctx context.Context, outgoing event.Event, ended time.Time) (keptn.Delivery, error) {
	if elected := reporter.Load(); elected != nil {
		return elected.Deliver(ctx, outgoing, ended)
	}
	return keptn.Delivery{}, errNotElected
}

// HasStarted is keptn.Reporter's.
func (reporter *deferred) HasStarted(ctx context.Context, task keptn.Task) (bool, error) {
	if elected := reporter.Load(); elected != nil {
		return elected.HasStarted(ctx, task)
	}
	return false, errNotElected
}

// elected has handlers and loops work only while this bridge is elected. Files are
// served by every bridge.
func (dependencies Dependencies) elected(handlers map[string]function.Handler, loops []func(context.Context) error, begin func()) []func(context.Context) error {
	gate := &Gate{Holder: dependencies.Elector.Holder, HTTP: dependencies.Peers}
	for path, handle := range handlers {
		handlers[path] = gate.Handler(path, handle)
	}
	return []func(context.Context) error{func(ctx context.Context) error {
		return dependencies.Elector.Run(ctx, func(ctx context.Context) error {
			begin()
			gate.Open(ctx)
			group, ctx := errgroup.WithContext(ctx)
			for _, loop := range loops {
				group.Go(func() error { return loop(ctx) })
			}
			return group.Wait()
		})
	}}
}
