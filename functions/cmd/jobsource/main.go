// Command jobsource sends the completions of Jobs to the Broker.
package main

import (
	"context"
	"net/http"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/run"
)

type configuration struct {
	BrokerURL  string   `envconfig:"BROKER_URL" required:"true"`
	Namespaces []string `envconfig:"JOB_NAMESPACES" required:"true"`
	// Installation tells the Jobs of several installations apart.
	Installation string `envconfig:"INSTALLATION" default:"job-executor"`
	// StartDeadline is the time in which a Job's pod has to start.
	StartDeadline time.Duration `envconfig:"START_DEADLINE" default:"5m"`
	// SendTimeout bounds one delivery: a Broker over the in-memory channel
	// answers only after the watcher and the bridge did.
	SendTimeout time.Duration `envconfig:"SEND_TIMEOUT" default:"3m"`
	// ActiveInterval is the time between two times that active runs are named.
	ActiveInterval time.Duration `envconfig:"ACTIVE_INTERVAL" default:"1m"`
}

func main() {
	function.Main("jobsource", func(_ context.Context, configuration configuration, telemetry *function.Telemetry) (function.Program, error) {
		klog.SetSlogLogger(telemetry.Log)
		config, err := run.InClusterConfig(telemetry.Transport)
		if err != nil {
			return function.Program{}, err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return function.Program{}, err
		}
		source := &jobsource.Source{
			Client:     client,
			Namespaces: configuration.Namespaces, Installation: configuration.Installation,
			ActiveInterval: configuration.ActiveInterval, StartDeadline: configuration.StartDeadline,
			Sender: &function.Sender{
				URL:  configuration.BrokerURL,
				HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport), Timeout: configuration.SendTimeout},
			},
			Marker:     &run.Store{Batch: client.BatchV1(), Namespaces: configuration.Namespaces, Installation: configuration.Installation},
			Tracer:     telemetry.Tracers.Tracer("jobsource"),
			Meter:      telemetry.Meters.Meter("jobsource"),
			Propagator: telemetry.Propagator,
			Now:        time.Now,
			Log:        telemetry.Log,
		}
		return function.Program{Handlers: map[string]function.Handler{"/": source.Handle}, Loops: []func(context.Context) error{source.Run}}, nil
	})
}
