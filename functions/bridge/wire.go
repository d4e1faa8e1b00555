package bridge

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/bridge/deadletter"
	"github.com/job-executor/job-executor/functions/bridge/gateway"
	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/bridge/nats"
	"github.com/job-executor/job-executor/functions/bridge/poll"
	"github.com/job-executor/job-executor/functions/bridge/report"
	"github.com/job-executor/job-executor/functions/bridge/runmetric"
	"github.com/job-executor/job-executor/functions/bridge/runs"
	"github.com/job-executor/job-executor/functions/bridge/runspan"
	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/election"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Stream exchanges events with Keptn in a better way than its HTTP API, as nats.Transport does.
type Stream interface {
	protocol.Sender
	// Receive passes events to the intake until the context ends. It offers an event again after an error.
	Receive(ctx context.Context, in intake.Intake) error
	// MaxBytes returns the largest event that it accepts, 0 if unknown.
	MaxBytes() int
}

// Dependencies are the outside world of a bridge, for Connect and New.
type Dependencies struct {
	Kubernetes kubernetes.Interface
	// Transport makes requests to the Broker and to the elected bridge.
	Transport http.RoundTripper
	// KeptnTransport makes requests to Keptn; nil is one that verifies TLS as configured.
	KeptnTransport http.RoundTripper
	// Reload reads the configuration again, for rotated secrets; nil if they never change.
	Reload    func() (Configuration, error)
	Telemetry *telemetry.Signals
	Now       func() time.Time
	// Jitter returns a random part of a duration.
	Jitter func(time.Duration) time.Duration
}

// Connections are a bridge's keys and connections, obtained at its start.
type Connections struct {
	// GrantKey signs grants.
	GrantKey []byte
	// Keys sign sent events and verify received ones.
	Keys signature.Source
	// Version is as in signature.Party.
	Version int
	// Stream is nil if events are exchanged over HTTP.
	Stream Stream
	// Elector is nil if there is only one bridge.
	Elector election.Elector
	// Uninstalled reports whether the installation is being removed; nil never is.
	Uninstalled func(ctx context.Context) bool
}

// Connect reads or creates the keys, and prepares the election and the connection to NATS. It waits for the
// cluster until the context ends.
func Connect(ctx context.Context, configuration Configuration, dependencies Dependencies) (Connections, error) {
	log, pod := dependencies.Telemetry.Log, configuration.Pod
	grantKey, err := function.Retry(ctx, log, func(ctx context.Context) ([]byte, error) {
		return gateway.LoadGrantKey(ctx, dependencies.Kubernetes.CoreV1().Secrets(pod.Namespace), configuration.Grants.Secret)
	})
	if err != nil {
		return Connections{}, err
	}
	keys, err := function.Retry(ctx, log, func(ctx context.Context) (signature.Source, error) {
		return signature.Make(ctx, clientset.Of(dependencies.Kubernetes), pod.Namespace)
	})
	if err != nil {
		return Connections{}, err
	}
	connections := Connections{
		GrantKey: grantKey, Keys: keys,
		Elector: &election.Election{
			Leases: dependencies.Kubernetes.CoordinationV1(), Pods: dependencies.Kubernetes.CoreV1(), Pod: pod.Pod, Lease: pod.Lease, Log: log,
		},
		Uninstalled: Uninstalled(ctx, dependencies.Kubernetes.AppsV1().Deployments(pod.Namespace), configuration.Registration.Deployment),
	}
	if configuration.Keptn.Transport == NATS {
		connections.Stream, err = ConnectNATS(configuration, dependencies)
	}
	return connections, err
}

// ConnectNATS returns a stream that connects in the background and reconnects for ever. Its error names the
// invalid setting.
func ConnectNATS(configuration Configuration, dependencies Dependencies) (*nats.Transport, error) {
	options, err := configuration.natsOptions(newSecrets(configuration, dependencies).nats)
	if err != nil {
		return nil, err
	}
	stream, err := nats.Connect(configuration.NATS.URL, configuration.installation("-"), dependencies.Telemetry.Log, options...)
	if err != nil {
		return nil, fmt.Errorf("environment variable KEPTN_NATS_URL: %w", err)
	}
	return stream, nil
}

const (
	// countInterval and countLimit bound how a delivery waits for Keptn to dispatch a task or count an event.
	// After that, a redelivery checks again.
	countInterval = 50 * time.Millisecond
	countLimit    = 3 * time.Second
	// flight is how long a killed bridge's request may be under way: a slow Keptn takes half a minute.
	flight = 30 * time.Second
	// order is longer than the half minute after which Keptn's stream redelivers what a dying
	// shipyard-controller has not acknowledged (recording 55-shipyard-restart).
	order = 45 * time.Second
	// deduplication is how long Keptn's stream recognises a resent event: two minutes (recording
	// 50-nats-participant), less some time on the way.
	deduplication = 90 * time.Second
	// minLookInterval and maxLookInterval bound the interval of checks whether Keptn still waits for active
	// runs. In between, it is the poll's.
	minLookInterval = 500 * time.Millisecond
	maxLookInterval = 2 * time.Second
)

// getSLI is the type of lighthouse-service's requests for SLIs.
const getSLI = "sh.keptn.event.get-sli.triggered"

// sourceOf returns the source of an installation's events, which distinguishes several installations on one
// Keptn.
func sourceOf(configuration Configuration, grantKey []byte) string {
	if len(grantKey) == 0 {
		return keptn.Source
	}
	const marked = 4
	mark := hmac.New(sha256.New, grantKey)
	_, _ = mark.Write([]byte(configuration.installation("/")))
	return keptn.Source + "-" + hex.EncodeToString(mark.Sum(nil)[:marked])
}

// New wires a bridge. Its error names the invalid setting.
func New(configuration Configuration, dependencies Dependencies, connections Connections) (function.Program, error) {
	source, now, log := sourceOf(configuration, connections.GrantKey), dependencies.Now, dependencies.Telemetry.Log
	tracer, timing := dependencies.Telemetry.Tracers.Tracer("bridge"), configuration.Timing
	client, err := configuration.client(dependencies.KeptnTransport, source, newSecrets(configuration, dependencies), log)
	if err != nil {
		return function.Program{}, err
	}
	sink, err := configuration.Broker.Sender(dependencies.Transport, function.BrokerTimeout, dependencies.Telemetry.Events)
	if err != nil {
		return function.Program{}, err
	}
	party := &signature.Party{Keys: connections.Keys, Version: connections.Version, Now: now, Events: dependencies.Telemetry.Events, Log: log}
	broker := party.Sender(sink)
	subscriptions := intake.NewSubscriptions(client, configuration.integration(), timing.PingInterval, connections.Uninstalled, log)
	subscriptions.Registered = func(ctx context.Context, types []string) {
		if err := client.CheckDatastore(ctx); err != nil && slices.Contains(types, getSLI) {
			log.WarnContext(ctx, "get-sli events of lighthouse-service are not answered: mongodb-datastore cannot be asked; they need KEPTN_TRANSPORT nats", "error", err)
		}
	}
	sender, maxBytes := protocol.Sender(client), func() int { return 0 }
	metrics, err := runmetric.New(dependencies.Telemetry.Meters, dependencies.Telemetry.Events, now)
	if err != nil {
		return function.Program{}, err
	}
	spans := &runspan.Writer{Tracer: tracer, JobTracer: dependencies.Telemetry.JobTracers.Tracer("bridge"), Ended: metrics.Ended, Now: now}
	counter := keptn.Counter(client)
	if dependencies.Telemetry.IsTraced {
		spans.Keptn = client
		counter = spans.Counter()
	}
	waiting := report.Timing{Loss: timing.LossTimeout, Flight: flight, Order: order, Interval: countInterval, Limit: countLimit}
	if stream := connections.Stream; stream != nil {
		sender, maxBytes, waiting.Deduplication = stream, stream.MaxBytes, deduplication
	}
	reporter := &report.Reporter{
		Sender: sender, Counter: counter, Archive: client, Source: source, TraceURL: configuration.TraceURL,
		Limit: report.NewSizeLimit(configuration.Keptn.MaxEventBytes, maxBytes, log), Timing: waiting, Tracer: tracer, Now: now, Metrics: metrics, Log: log,
	}
	reporter.Begin()
	active := &runs.Runs{
		Lister: client, Counter: counter, Keptn: reporter, Broker: broker, Source: source,
		Interval: min(max(timing.PollInterval, minLookInterval), maxLookInterval), Tracer: tracer, RunSpans: spans, Now: now, Log: log,
	}
	if err := metrics.Active(active.Active); err != nil {
		return function.Program{}, err
	}
	inbox := &intake.Inbox{
		Broker: broker, Counter: counter, Reporter: reporter, Subscriptions: subscriptions, Runs: active, Metrics: metrics, Source: source,
		OwnExecutors: configuration.OwnExecutors, Page: configuration.Keptn.page(),
		Resend: timing.ResyncInterval, Tracer: tracer, Now: now, Log: log,
	}
	lanes := &intake.Lanes{}
	poller := &poll.Poller{
		Lister: client, Subscriptions: subscriptions, Publish: inbox.Publish, Lanes: lanes,
		Interval: timing.PollInterval, Alone: connections.Stream == nil, Jitter: dependencies.Jitter, Metrics: metrics, Log: log,
	}
	loops := []func(context.Context) error{subscriptions.Run, poller.Run, active.Run}
	if dependencies.Telemetry.IsTraced {
		loops = append(loops, spans.Run)
	}
	if stream := connections.Stream; stream != nil {
		// Listing only finds what the stream did not bring.
		poller.Interval = timing.ResyncInterval
		in := intake.Intake{Receiving: poller.Soon, Wants: loggingUnwanted(subscriptions.Wants, log), Lanes: lanes, Publish: inbox.Publish}
		loops = append(loops, func(ctx context.Context) error { return stream.Receive(ctx, in) })
	}
	outbox := &report.Outbox{
		Keptn: reporter, Journal: client, IntegrationID: subscriptions.ID, Runs: active, RunSpans: spans, Metrics: metrics, Source: source, Now: now, Log: log,
	}
	inbox.Fail = func(ctx context.Context, task keptn.Task, why string) error {
		_, err := outbox.Deliver(ctx, protocol.Errored(task, now(), why))
		return err
	}
	log.Info("bridge configured", "transport", configuration.Keptn.Transport, "keptn", client.Endpoints.ControlPlane,
		"nats", configuration.NATS.Host(), "subscriptions", configuration.Registration.Subscriptions)
	deadLetters := &deadletter.Sink{Ask: inbox.Ask, Deliver: outbox.Deliver, BrokerURL: configuration.Broker.URL, Count: dependencies.Telemetry.Events.DeadLettered, Now: now, Log: log}
	files := &gateway.Gateway{
		Resources: client, Counter: counter, Reporter: reporter,
		Reviewer:  gateway.NewTokenReviewer(dependencies.Kubernetes.AuthenticationV1().TokenReviews(), now),
		Cancelled: func(ctx context.Context, task keptn.Task) { spans.Write(ctx, task, keptn.RunCancellation, "") },
		Verify:    party.Verify,
		Grants:    &gateway.Grants{Key: connections.GrantKey, Lifetime: configuration.Grants.Lifetime, Now: now},
		Subjects:  configuration.Grants.Subjects, Cache: gateway.NewCache(), Log: log,
	}
	handlers := map[string]function.Handler{
		"/keptn":       party.Handler(outbox.Handle),
		"/undelivered": party.Handler(deadLetters.Handle, deadletter.Extensions()...),
		"/active":      party.Handler(active.Handle),
	}
	if connections.Elector != nil {
		loops = election.Lead(connections.Elector, dependencies.Transport, handlers, loops, reporter.Begin)
	}
	return function.Program{Handlers: handlers, Routes: files.Routes(), RoutesPort: configuration.Grants.FilesPort, Loops: loops, Ready: client.Ready}, nil
}

// loggingUnwanted logs each unsubscribed type of task once.
func loggingUnwanted(wants func(eventType string) bool, log *slog.Logger) func(eventType string) bool {
	known, _ := lru.New[string, bool](unwantedTypes) // it fails only for a size that is not positive
	return func(eventType string) bool {
		wanted := wants(eventType)
		if _, phase, isTask := keptn.ParseType(eventType); !wanted && isTask && phase == keptn.Triggered {
			if before, _ := known.ContainsOrAdd(eventType, true); !before {
				log.Info("ignoring events: their type is not subscribed; subscribe to it in Keptn's page of integrations", "type", eventType)
			}
		}
		return wanted
	}
}

// unwantedTypes bounds the remembered types.
const unwantedTypes = 1000
