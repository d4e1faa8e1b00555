// Command executor creates the Jobs for Keptn's triggered events.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
)

func main() {
	function.Main("executor", func(_ context.Context, configuration executor.Configuration, signals *telemetry.Signals) (function.Program, error) {
		client, err := cluster.Connect(cluster.CallTimeout)
		return executor.New(configuration, executor.Dependencies{
			Kubernetes: client, Transport: http.DefaultTransport, Telemetry: signals, Now: time.Now,
		}), err
	})
}
