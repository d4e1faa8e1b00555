package executor

import (
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
)

// Configuration is what the installation allows and what holds where a task says
// nothing. The defaults are those of the job-executor-service's chart.
type Configuration struct {
	run.Settings
	// ServiceAccount is the Jobs' default service account.
	ServiceAccount string `env:"JOB_SERVICE_ACCOUNT" envDefault:"job-executor-job"`
	// AllowedImages are glob patterns; an empty list allows every image.
	AllowedImages []string `env:"ALLOWED_IMAGES"`
	// AllowPrivileged lets tasks run privileged containers.
	AllowPrivileged bool `env:"ALLOW_PRIVILEGED_JOBS" envDefault:"false"`
	// TaskDeadlineSeconds is the longest that any task may take; 0 is no limit
	// but the task's own.
	TaskDeadlineSeconds int64 `env:"TASK_DEADLINE_SECONDS" envDefault:"0"`
	// TerminationGraceSeconds is how long a container may go on after its time is over.
	TerminationGraceSeconds int64 `env:"JOB_TERMINATION_GRACE_SECONDS" envDefault:"5"`
	// VolumeSize limits the volume at /keptn.
	VolumeSize Quantity `env:"JOB_VOLUME_SIZE" envDefault:"20Mi"`

	LimitCPU      Quantity `env:"DEFAULT_RESOURCE_LIMITS_CPU" envDefault:"1"`
	LimitMemory   Quantity `env:"DEFAULT_RESOURCE_LIMITS_MEMORY" envDefault:"512Mi"`
	RequestCPU    Quantity `env:"DEFAULT_RESOURCE_REQUESTS_CPU" envDefault:"50m"`
	RequestMemory Quantity `env:"DEFAULT_RESOURCE_REQUESTS_MEMORY" envDefault:"128Mi"`

	// FetcherImage is the image of the init container.
	FetcherImage string `env:"FETCHER_IMAGE,notEmpty"`
	// BridgeURL is where the init container gets the files from.
	BridgeURL string `env:"BRIDGE_URL,notEmpty"`
	// TokenFile holds the service account token for the bridge's audience.
	TokenFile string `env:"BRIDGE_TOKEN_FILE,notEmpty"`
}

// Quantity is a Kubernetes quantity in an environment variable.
type Quantity struct{ resource.Quantity }

// UnmarshalText reads a quantity; it is an error if it is none.
func (quantity *Quantity) UnmarshalText(text []byte) error {
	parsed, err := resource.ParseQuantity(string(text))
	quantity.Quantity = parsed
	return err
}

// Dependencies are what an executor stands on.
type Dependencies struct {
	Kubernetes cluster.Clients
	// Transport makes requests to the bridge.
	Transport http.RoundTripper
	Telemetry *function.Telemetry
	Now       func() time.Time
}

// New wires an executor, of any task type.
func New(configuration Configuration, dependencies Dependencies) function.Program {
	telemetry := dependencies.Telemetry
	executor := &Executor{
		Files: &BridgeFiles{TokenFile: configuration.TokenFile, Gateway: files.Client{
			URL: configuration.BridgeURL, HTTP: &http.Client{Transport: telemetry.Transport(dependencies.Transport), Timeout: files.CallTimeout},
		}},
		Jobs:    configuration.Store(dependencies.Kubernetes.Batch),
		Cluster: &KubernetesCluster{Core: dependencies.Kubernetes.Core}, Configuration: configuration,
		Propagator: telemetry.Propagator, Now: dependencies.Now, Log: telemetry.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": executor.Handle}}
}
