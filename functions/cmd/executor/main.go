// Command executor creates the Jobs for Keptn's triggered events.
package main

import (
	"context"
	"net/http"
	"time"

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
		clients, err := run.Connect(telemetry.Transport)
		if err != nil {
			return function.Program{}, err
		}
		handler := &executor.Executor{
			Files: &executor.BridgeFiles{
				URL: configuration.BridgeURL, TokenFile: configuration.TokenFile,
				HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: executor.ReadTimeout},
			},
			Jobs:       &run.Store{Batch: clients.Batch, Namespaces: configuration.Namespaces, Installation: configuration.Installation},
			Cluster:    &executor.KubernetesCluster{Core: clients.Core},
			Settings:   configuration.Settings,
			Propagator: telemetry.Propagator,
			Now:        time.Now,
			Log:        telemetry.Log,
		}
		return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}, nil
	})
}
