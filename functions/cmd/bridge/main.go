// Command bridge connects Keptn with the Broker.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
)

// brokerTimeout is long since a Broker over the in-memory channel answers only
// after the executor started from zero and its reply reached Keptn.
const brokerTimeout = 3 * time.Minute

func main() {
	function.Main("bridge", wire)
}

func wire(ctx context.Context, configuration bridge.Configuration, telemetry *function.Telemetry) (function.Program, error) {
	client, err := configuration.Client()
	if err != nil {
		return function.Program{}, err
	}
	klog.SetSlogLogger(telemetry.Log)
	config, err := run.InClusterConfig(telemetry.Transport)
	if err != nil {
		return function.Program{}, err
	}
	cluster, err := kubernetes.NewForConfig(run.BoundCalls(config))
	if err != nil {
		return function.Program{}, err
	}
	key, err := function.Retry(ctx, telemetry.Log, func(ctx context.Context) ([]byte, error) {
		return bridge.LoadGrantKey(ctx, cluster.CoreV1().Secrets(configuration.Namespace), configuration.GrantSecret)
	})
	if err != nil {
		return function.Program{}, err
	}
	traced := &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: brokerTimeout}
	dependencies := bridge.Dependencies{
		Keptn:       client,
		Broker:      &function.Sender{URL: configuration.BrokerURL, HTTP: traced},
		Reviewer:    &bridge.TokenReviewer{Client: cluster.AuthenticationV1().TokenReviews()},
		GrantKey:    key,
		Elector:     bridge.NewElection(configuration, cluster.CoordinationV1(), cluster.CoreV1(), telemetry.Log),
		Peers:       traced,
		Uninstalled: bridge.Uninstalled(ctx, cluster.AppsV1().Deployments(configuration.Namespace), configuration.Deployment),
		Tracer:      telemetry.Tracers.Tracer("bridge"),
		Meter:       telemetry.Meters.Meter("bridge"),
		Now:         time.Now,
		Jitter:      func(most time.Duration) time.Duration { return rand.N(most + 1) }, //nolint:gosec // no secret
		Log:         telemetry.Log,
	}
	if configuration.Transport == bridge.NATS {
		if dependencies.Stream, err = bridge.ConnectNATS(configuration, telemetry.Log); err != nil {
			return function.Program{}, err
		}
	}
	return bridge.New(configuration, dependencies), nil
}
