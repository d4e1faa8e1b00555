// Command executor creates the Jobs for Keptn's triggered events.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/function"
)

func main() {
	function.Main("executor", func(_ context.Context, configuration executor.Configuration, telemetry *function.Telemetry) (function.Program, error) {
		client, err := cluster.Connect(cluster.CallTimeout)
		return executor.New(configuration, executor.Dependencies{
			Kubernetes: client, Transport: http.DefaultTransport, Telemetry: telemetry, Now: time.Now,
		}), err
	})
}
