// Command watcher turns the completion of Jobs into Keptn's finished events.
package main

import (
	"context"
	"time"

	batchclient "k8s.io/client-go/kubernetes/typed/batch/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher"
)

type configuration struct {
	Namespaces []string `envconfig:"JOB_NAMESPACES" required:"true"`
	// MaxLogBytes is how much of one container's log goes into the finished event.
	MaxLogBytes int `envconfig:"MAX_LOG_BYTES" default:"16384"`
}

func main() {
	function.Main("watcher", func(_ context.Context, configuration configuration, telemetry *function.Telemetry) (function.Program, error) {
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
		handler := &watcher.Watcher{
			Runs:  &run.Store{Batch: batch, Namespaces: configuration.Namespaces},
			Pods:  &run.Pods{Core: core, MaxLogBytes: configuration.MaxLogBytes},
			Trace: watcher.Tracer{Tracer: telemetry.Tracers.Tracer("watcher"), Propagator: telemetry.Propagator},
			Now:   time.Now,
			Log:   telemetry.Log,
		}
		return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}, nil
	})
}
