package watcher

import (
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/functions/watcher/redact"
)

// Configuration is the watcher's environment.
type Configuration struct {
	store.Settings
	Signing signature.Settings
	// MaxLogBytes is how much of one container's log goes into the finished event.
	MaxLogBytes int `env:"MAX_LOG_BYTES" envDefault:"262144"`
	// LogTimeout bounds the time for all logs of a run; each has an equal share of it. It must be
	// well below the timeout of the Trigger.
	LogTimeout time.Duration `env:"LOG_TIMEOUT" envDefault:"30s"`
	// ConcurrentReports bounds how many runs are reported at a time, fewer if they have many Jobs.
	ConcurrentReports int64 `env:"CONCURRENT_REPORTS" envDefault:"4"`
}

// Dependencies are what the watcher stands on.
type Dependencies struct {
	Kubernetes cluster.Client
	Telemetry  *telemetry.Signals
	Now        func() time.Time
}

// New wires the watcher.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	signals := dependencies.Telemetry
	party := configuration.Signing.Party(signature.Watcher, dependencies.Now, signals)
	watcher := &Watcher{
		Runs:        configuration.Jobs(dependencies.Kubernetes),
		Pods:        &store.Pods{Client: dependencies.Kubernetes},
		Secrets:     &redact.KubernetesSecrets{Client: dependencies.Kubernetes, Log: signals.Log},
		Rules:       &Admission{Client: dependencies.Kubernetes},
		MaxLogBytes: configuration.MaxLogBytes, LogTimeout: configuration.LogTimeout,
		Memory: semaphore.NewWeighted(maxReported), MinWeight: maxReported / max(configuration.ConcurrentReports, 1),
		Tracer: signals.Tracers.Tracer("watcher"),
		Now:    dependencies.Now, Log: signals.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": party.Handler(watcher.Handle)}}
}
