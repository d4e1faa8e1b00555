// Command watcher turns the completion of Jobs into Keptn's finished events.
package main

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher"
)

type configuration struct {
	Namespaces []string `envconfig:"JOB_NAMESPACES" required:"true"`
	// Installation tells the Jobs of several installations apart.
	Installation string `envconfig:"INSTALLATION" default:"job-executor"`
	// MaxLogBytes is how much of one container's log goes into the finished event.
	MaxLogBytes int `envconfig:"MAX_LOG_BYTES" default:"262144"`
	// LogTimeout bounds the time in which one log is read.
	LogTimeout time.Duration `envconfig:"LOG_TIMEOUT" default:"10s"`
	// ConcurrentReports bounds how many runs' logs are in memory at a time.
	ConcurrentReports int64 `envconfig:"CONCURRENT_REPORTS" default:"4"`
}

func main() {
	function.Main("watcher", func(_ context.Context, configuration configuration, telemetry *function.Telemetry) (function.Program, error) {
		clients, err := run.Connect(telemetry.Transport)
		if err != nil {
			return function.Program{}, err
		}
		handler := &watcher.Watcher{
			Runs:   &run.Store{Batch: clients.Batch, Namespaces: configuration.Namespaces, Installation: configuration.Installation},
			Pods:   &run.Pods{Core: clients.Core, MaxLogBytes: configuration.MaxLogBytes, LogTimeout: configuration.LogTimeout},
			Memory: semaphore.NewWeighted(configuration.ConcurrentReports),
			Trace:  watcher.Tracer{Tracer: telemetry.Tracers.Tracer("watcher"), Propagator: telemetry.Propagator},
			Now:    time.Now,
			Log:    telemetry.Log,
		}
		return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}, nil
	})
}
