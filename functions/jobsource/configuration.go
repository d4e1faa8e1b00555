package jobsource

import (
	"context"
	"net/http"
	"time"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/election"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Configuration is jobsource's environment.
type Configuration struct {
	// Broker is where events go.
	Broker function.Sink
	store.Settings
	Signing signature.Settings
	Pod     election.Pod
	// MaxActiveRuns is how many runs of a project may be active at a time; 0 is no limit.
	MaxActiveRuns int `env:"MAX_ACTIVE_RUNS_PER_PROJECT" envDefault:"0"`
	// StartDeadline is the time in which a Job's pod has to start.
	StartDeadline time.Duration `env:"START_DEADLINE" envDefault:"5m"`
	// SendTimeout bounds one delivery: a Broker over the in-memory channel
	// answers only after the watcher and the bridge did.
	SendTimeout time.Duration `env:"SEND_TIMEOUT" envDefault:"3m"`
	// ActiveInterval is the time between two announcements of active runs.
	ActiveInterval time.Duration `env:"ACTIVE_INTERVAL" envDefault:"1m"`
}

// Lease is the name of the Lease that elects one of several replicas.
const Lease = "jobsource"

// Dependencies are what jobsource stands on.
type Dependencies struct {
	Kubernetes cluster.Client
	// Transport makes requests to the Broker.
	Transport http.RoundTripper
	// Elector is nil if there is only one jobsource.
	Elector   election.Elector
	Telemetry *telemetry.Signals
	Now       func() time.Time
}

// New wires jobsource. Its error names the invalid setting.
func New(configuration Configuration, dependencies Dependencies) (function.Program, error) {
	signals := dependencies.Telemetry
	party := configuration.Signing.Party(signature.Jobsource, dependencies.Now, signals)
	sender, err := configuration.Broker.Sender(dependencies.Transport, configuration.SendTimeout, signals.Events)
	if err != nil {
		return function.Program{}, err
	}
	source := &Source{
		Client: dependencies.Kubernetes, Namespaces: configuration.Namespaces, Installation: configuration.Installation,
		ActiveInterval: configuration.ActiveInterval, StartDeadline: configuration.StartDeadline, MaxActiveRuns: configuration.MaxActiveRuns,
		Sender: party.Sender(sender),
		Marker: configuration.Jobs(dependencies.Kubernetes),
		Tracer: signals.Tracers.Tracer("jobsource"), Meter: signals.Meters.Meter("jobsource"), Events: signals.Events,
		Now: dependencies.Now, Log: signals.Log,
	}
	handlers := map[string]function.Handler{"/": party.Handler(source.Handle)}
	loops := []func(context.Context) error{source.Run}
	if dependencies.Elector != nil {
		loops = election.Lead(dependencies.Elector, dependencies.Transport, handlers, loops, func() {})
	}
	return function.Program{Handlers: handlers, Loops: loops, Untraced: true}, nil
}
