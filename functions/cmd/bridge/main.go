// Command bridge connects Keptn with the Broker.
package main

import (
	"context"
	"net/http"
	"time"

	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

const (
	keptnTimeout = 30 * time.Second
	// brokerTimeout is long since a Broker over the in-memory channel answers only
	// after the executor started from zero and its reply reached Keptn.
	brokerTimeout = 3 * time.Minute
	// countInterval and countLimit are how a delivery waits for Keptn to dispatch a
	// task or to count an event; after that the Broker delivers it again.
	countInterval = 50 * time.Millisecond
	countLimit    = 3 * time.Second
	// activeInterval is the time between two looks whether Keptn still waits for
	// the tasks that run.
	activeInterval = 2 * time.Second
)

func main() {
	function.Main("bridge", wire)
}

func wire(ctx context.Context, configuration bridge.Configuration, telemetry *function.Telemetry) (function.Program, error) {
	endpoints, err := configuration.Endpoints()
	if err != nil {
		return function.Program{}, err
	}
	client := &keptn.Client{
		Endpoints: endpoints, Token: configuration.APIToken,
		HTTP: keptn.NewHTTPClient(http.DefaultTransport, keptnTimeout),
	}
	broker := &function.Sender{
		URL:  configuration.BrokerURL,
		HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: brokerTimeout},
	}
	subscriptions := bridge.NewSubscriptions(client, configuration.Integration(), configuration.PingInterval, telemetry.Log)
	tracer := telemetry.Tracers.Tracer("bridge")
	active := bridge.NewActive(client, client, broker, activeInterval, tracer, time.Now, telemetry.Log)
	inbox := bridge.NewInbox(broker, client, subscriptions, active, configuration.ResyncInterval, tracer, time.Now, telemetry.Log)
	poller := &bridge.Poller{Lister: client, Subscriptions: subscriptions, Take: inbox.Take, Interval: configuration.PollInterval, Log: telemetry.Log}
	loops := []func(context.Context) error{subscriptions.Run, poller.Run, active.Run}

	var sender keptn.Sender = client
	if configuration.Transport == bridge.NATS {
		transport, err := bridge.ConnectNATS(configuration.NATSURL, telemetry.Log)
		if err != nil {
			return function.Program{}, err
		}
		sender, poller.Interval = transport, configuration.ResyncInterval
		loops = append(loops, func(ctx context.Context) error { return transport.Receive(ctx, inbox.Take) })
	}
	reporter := keptn.NewReporter(sender, client, configuration.Transport == bridge.HTTP,
		keptn.Wait{Interval: countInterval, Limit: countLimit}, time.Now, telemetry.Log)
	outbox := &bridge.Outbox{Keptn: reporter, Active: active, Now: time.Now, Log: telemetry.Log}

	gateway, err := wireGateway(ctx, configuration, client, telemetry)
	if err != nil {
		return function.Program{}, err
	}
	return function.Program{
		Handlers: map[string]function.Handler{"/keptn": outbox.Handle, "/undelivered": outbox.HandleUndelivered},
		Routes:   gateway.Routes(),
		Loops:    loops,
	}, nil
}

func wireGateway(ctx context.Context, configuration bridge.Configuration, client *keptn.Client, telemetry *function.Telemetry) (*bridge.Gateway, error) {
	config, err := run.InClusterConfig(telemetry.Transport)
	if err != nil {
		return nil, err
	}
	core, err := coreclient.NewForConfig(run.BoundCalls(config))
	if err != nil {
		return nil, err
	}
	authentication, err := authenticationclient.NewForConfig(run.BoundCalls(config))
	if err != nil {
		return nil, err
	}
	key, err := bridge.LoadGrantKey(ctx, core.Secrets(configuration.Namespace), configuration.GrantSecret)
	if err != nil {
		return nil, err
	}
	return &bridge.Gateway{
		Resources: client,
		Reviewer:  &bridge.TokenReviewer{Client: authentication.TokenReviews()},
		Grants:    &bridge.Grants{Key: key, Lifetime: configuration.GrantLifetime, Now: time.Now},
		Subjects:  configuration.GrantSubjects,
		Log:       telemetry.Log,
	}, nil
}
