package executor

import (
	"net/http"
	"time"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Configuration is the environment of an executor.
type Configuration struct {
	plan.Rules
	Signing signature.Settings
	// TokenFile has the service account token for the bridge's audience.
	TokenFile string `env:"BRIDGE_TOKEN_FILE,notEmpty"`
}

// Dependencies are the outside world of an executor.
type Dependencies struct {
	Kubernetes cluster.Client
	// Transport makes requests to the bridge.
	Transport http.RoundTripper
	Telemetry *telemetry.Signals
	Now       func() time.Time
}

// New wires an executor, of any task type.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	signals := dependencies.Telemetry
	party := configuration.Signing.Party(signature.Executor, dependencies.Now, signals)
	executor := &Executor{
		Files: &BridgeFiles{Namespaces: configuration.Namespaces, Gateway: files.Client{
			URL: configuration.BridgeURL, TokenFile: configuration.TokenFile, HTTP: &http.Client{Transport: dependencies.Transport, Timeout: files.CallTimeout},
		}},
		Jobs: configuration.Jobs(dependencies.Kubernetes),
		Cluster: &RememberingCluster{
			Cluster: &KubernetesCluster{Client: dependencies.Kubernetes},
			Allowed: configuration.MayBeNamed, Listed: configuration.ListsAccount, Now: dependencies.Now,
		},
		Configuration: configuration,
		Tracer:        signals.Tracers.Tracer("executor"), Now: dependencies.Now, Log: signals.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": party.Handler(executor.Handle)}}
}
