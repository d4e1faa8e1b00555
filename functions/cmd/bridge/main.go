// Command bridge connects Keptn with the Broker.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/functions/telemetry/prometheus"
)

func main() {
	prometheus.Main("bridge", wire)
}

// reload reads the configuration again, with the secrets as they are now.
func reload() (bridge.Configuration, error) {
	settings, err := function.ReadVariables(os.Environ())
	if err != nil {
		return bridge.Configuration{}, err
	}
	return function.Configure[bridge.Configuration](settings)
}

func wire(ctx context.Context, configuration bridge.Configuration, signals *telemetry.Signals) (function.Program, error) {
	klog.SetSlogLogger(signals.Log)
	config, err := cluster.Config(cluster.CallTimeout)
	if err != nil {
		return function.Program{}, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return function.Program{}, err
	}
	dependencies := bridge.Dependencies{
		Kubernetes: client, Transport: http.DefaultTransport, Telemetry: signals, Now: time.Now, Reload: reload,
		Jitter: func(limit time.Duration) time.Duration { return rand.N(limit + 1) }, //nolint:gosec // no secret
	}
	connections, err := bridge.Connect(ctx, configuration, dependencies)
	if err != nil {
		return function.Program{}, err
	}
	return bridge.New(configuration, dependencies, connections)
}
