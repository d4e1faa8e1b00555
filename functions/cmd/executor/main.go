// Command executor creates the Jobs for Keptn's triggered events.
package main

import (
	"context"
	"net/http"
	"time"

	batchclient "k8s.io/client-go/kubernetes/typed/batch/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
)

type configuration struct {
	executor.Settings
	TokenFile string `envconfig:"BRIDGE_TOKEN_FILE" required:"true"`
}

func main() {
	function.Main("executor", func(_ context.Context, configuration configuration, telemetry *function.Telemetry) (function.Program, error) {
		config, err := run.InClusterConfig(telemetry.Transport)
		if err != nil {
			return function.Program{}, err
		}
		batch, err := batchclient.NewForConfig(run.BoundCalls(config))
		if err != nil {
			return function.Program{}, err
		}
		core, err := coreclient.NewForConfig(run.BoundCalls(config))
		if err != nil {
			return function.Program{}, err
		}
		handler := &executor.Executor{
			Files: &executor.BridgeFiles{
				URL: configuration.BridgeURL, TokenFile: configuration.TokenFile,
				HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: executor.ReadTimeout},
			},
			Jobs:       &run.Store{Batch: batch, Namespaces: configuration.Namespaces},
			Cluster:    &executor.KubernetesCluster{Core: core},
			Settings:   configuration.Settings,
			Propagator: telemetry.Propagator,
			Now:        time.Now,
			Log:        telemetry.Log,
		}
		return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}, nil
	})
}
