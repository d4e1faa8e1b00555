// Command watcher turns the completion of Jobs into Keptn's finished events.
package main

import (
	"context"
	"time"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/functions/watcher"
)

func main() {
	function.Main("watcher", func(_ context.Context, configuration watcher.Configuration, signals *telemetry.Signals) (function.Program, error) {
		client, err := cluster.Connect(cluster.CallTimeout)
		return watcher.New(configuration, watcher.Dependencies{Kubernetes: client, Telemetry: signals, Now: time.Now}), err
	})
}
