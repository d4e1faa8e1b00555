// Command bridge connects Keptn with the Broker.
package main

import (
	"context"
	"math/rand/v2"
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
)

func main() {
	function.Main("bridge", wire)
}

func wire(ctx context.Context, configuration bridge.Configuration, telemetry *function.Telemetry) (function.Program, error) {
	endpoints, err := configuration.Endpoints()
	if err != nil {
		return function.Program{}, err
	}
	config, err := run.InClusterConfig(telemetry.Transport)
	if err != nil {
		return function.Program{}, err
	}
	core, err := coreclient.NewForConfig(run.BoundCalls(config))
	if err != nil {
		return function.Program{}, err
	}
	authentication, err := authenticationclient.NewForConfig(run.BoundCalls(config))
	if err != nil {
		return function.Program{}, err
	}
	key, err := bridge.LoadGrantKey(ctx, core.Secrets(configuration.Namespace), configuration.GrantSecret)
	if err != nil {
		return function.Program{}, err
	}
	dependencies := bridge.Dependencies{
		Keptn: &keptn.Client{
			Endpoints: endpoints, Token: configuration.APIToken,
			HTTP: keptn.NewHTTPClient(http.DefaultTransport, keptnTimeout),
		},
		Broker: &function.Sender{
			URL:  configuration.BrokerURL,
			HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: brokerTimeout},
		},
		Reviewer: &bridge.TokenReviewer{Client: authentication.TokenReviews()},
		GrantKey: key,
		Tracer:   telemetry.Tracers.Tracer("bridge"),
		Now:      time.Now,
		Jitter:   func(most time.Duration) time.Duration { return rand.N(most + 1) }, //nolint:gosec // no secret
		Log:      telemetry.Log,
	}
	if configuration.Transport == bridge.NATS {
		if dependencies.Stream, err = bridge.ConnectNATS(configuration.NATSURL, telemetry.Log); err != nil {
			return function.Program{}, err
		}
	}
	return bridge.New(configuration, dependencies), nil
}
