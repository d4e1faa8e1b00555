package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/fetcher"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher"
)

// Environment is what a function is wired to here, where its main would wire it
// to a cluster.
type Environment struct {
	Manifests Manifests
	// Transport makes its HTTP requests.
	Transport http.RoundTripper
	// Kubernetes is its cluster.
	Kubernetes kubernetes.Interface
	Telemetry  *function.Telemetry
	// TokenFile holds the token that identifies an executor.
	TokenFile string
	// Keptn configures the bridge; Stream is nil where it polls.
	Keptn  bridge.Configuration
	Stream bridge.Stream
	// KeptnTransport makes the bridge's requests to Keptn.
	KeptnTransport http.RoundTripper
	// Jitter returns a random part of a duration.
	Jitter func(time.Duration) time.Duration
}

const (
	systemNamespace = "job-executor"
	executorUser    = "system:serviceaccount:job-executor:executor"
	executorToken   = "the executor's token"
	grantSecret     = "bridge-grant-key"
	brokerTimeout   = 3 * time.Minute
	maxLogBytes     = 16 << 10
	// FetcherImage is the image of Jobs' init containers.
	FetcherImage = "fetcher"
	// activeInterval is the default of jobsource's ACTIVE_INTERVAL.
	activeInterval = time.Minute
	grantLifetime  = 24 * time.Hour
	// lossTimeout is the default of KEPTN_LOSS_TIMEOUT.
	lossTimeout = 6 * time.Minute
	// logTimeout is the default of LOG_TIMEOUT, and terminationGrace that of
	// JOB_TERMINATION_GRACE_SECONDS.
	logTimeout       = 10 * time.Second
	terminationGrace = 5
	// maxKeptnEventBytes is that of KEPTN_MAX_EVENT_BYTES.
	maxKeptnEventBytes = 1000000
)

func (environment Environment) sender() *function.Sender {
	return &function.Sender{
		URL:  environment.Manifests.Settings["BROKER_URL"],
		HTTP: &http.Client{Transport: environment.Telemetry.Transport(environment.Transport), Timeout: brokerTimeout},
	}
}

func (environment Environment) store() *run.Store {
	return &run.Store{Batch: environment.Kubernetes.BatchV1(), Namespaces: environment.namespaces(), Installation: environment.Manifests.Settings["INSTALLATION"]}
}

func (environment Environment) namespaces() []string {
	return strings.Split(environment.Manifests.Settings["JOB_NAMESPACES"], ",")
}

// Objects are what an installation needs to find in its cluster.
func Objects(manifests Manifests) []runtime.Object {
	objects := []runtime.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: grantSecret}}}
	for _, namespace := range strings.Split(manifests.Settings["JOB_NAMESPACES"], ",") {
		objects = append(objects, &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: manifests.Settings["JOB_SERVICE_ACCOUNT"]},
		})
	}
	return objects
}

// ReviewTokens has a cluster know the executor's token, which is written to a file.
func ReviewTokens(cluster *Kubernetes, tokenFile string) error {
	cluster.React("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status.Authenticated = review.Spec.Token == executorToken
		review.Status.User.Username, review.Status.Audiences = executorUser, review.Spec.Audiences
		return true, review, nil
	})
	if err := os.WriteFile(tokenFile, []byte(executorToken), 0o600); err != nil {
		return fmt.Errorf("writing the executor's token: %w", err)
	}
	return nil
}

// Bridge wires the bridge.
func Bridge(ctx context.Context, environment Environment) (function.Program, error) {
	configuration := environment.Keptn
	configuration.MaxEventBytes, configuration.BrokerURL = maxKeptnEventBytes, environment.Manifests.Settings["BROKER_URL"]
	if configuration.LossTimeout == 0 {
		configuration.LossTimeout = lossTimeout
	}
	configuration.GrantSubjects, configuration.GrantLifetime = []string{executorUser}, grantLifetime
	client, err := configuration.ClientOver(environment.KeptnTransport)
	if err != nil {
		return function.Program{}, err
	}
	key, err := bridge.LoadGrantKey(ctx, environment.Kubernetes.CoreV1().Secrets(systemNamespace), grantSecret)
	if err != nil {
		return function.Program{}, err
	}
	return bridge.New(configuration, bridge.Dependencies{
		Keptn:    client,
		Stream:   environment.Stream,
		Broker:   environment.sender(),
		Reviewer: &bridge.TokenReviewer{Client: environment.Kubernetes.AuthenticationV1().TokenReviews()},
		GrantKey: key,
		// It is never taken away, and there is only one.
		Uninstalled: func(context.Context) bool { return false },

		Tracer: environment.Telemetry.Tracers.Tracer("bridge"),
		Meter:  environment.Telemetry.Meters.Meter("bridge"),
		Now:    time.Now,
		Jitter: environment.Jitter,
		Log:    environment.Telemetry.Log,
	}), nil
}

// Executor wires an executor, of any task type.
func Executor(environment Environment) function.Program {
	settings := environment.Manifests.Settings
	quantity := func(name string) executor.Quantity {
		return executor.Quantity{Quantity: resource.MustParse(settings[name])}
	}
	handler := &executor.Executor{
		Files: &executor.BridgeFiles{
			URL: settings["BRIDGE_URL"], TokenFile: environment.TokenFile,
			HTTP: &http.Client{Transport: environment.Telemetry.Transport(environment.Transport), Timeout: executor.ReadTimeout},
		},
		Jobs:    environment.store(),
		Cluster: &executor.KubernetesCluster{Core: environment.Kubernetes.CoreV1()},
		Settings: executor.Settings{
			Namespaces: environment.namespaces(), Installation: settings["INSTALLATION"], TerminationGraceSeconds: terminationGrace, ServiceAccount: settings["JOB_SERVICE_ACCOUNT"],
			VolumeSize: quantity("JOB_VOLUME_SIZE"), LimitCPU: quantity("DEFAULT_RESOURCE_LIMITS_CPU"), LimitMemory: quantity("DEFAULT_RESOURCE_LIMITS_MEMORY"),
			RequestCPU: quantity("DEFAULT_RESOURCE_REQUESTS_CPU"), RequestMemory: quantity("DEFAULT_RESOURCE_REQUESTS_MEMORY"),
			FetcherImage: FetcherImage, BridgeURL: settings["BRIDGE_URL"],
		},
		Propagator: environment.Telemetry.Propagator,
		Now:        time.Now,
		Log:        environment.Telemetry.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}
}

// Jobsource wires jobsource.
func Jobsource(environment Environment) function.Program {
	settings := environment.Manifests.Settings
	deadline, err := time.ParseDuration(settings["START_DEADLINE"])
	if err != nil {
		panic(fmt.Sprintf("START_DEADLINE of config/: %v", err))
	}
	source := &jobsource.Source{
		Client: environment.Kubernetes, Namespaces: environment.namespaces(), Sender: environment.sender(),
		Marker:         environment.store(),
		Installation:   settings["INSTALLATION"],
		ActiveInterval: activeInterval, StartDeadline: deadline, Meter: environment.Telemetry.Meters.Meter("jobsource"),
		Tracer: environment.Telemetry.Tracers.Tracer("jobsource"), Propagator: environment.Telemetry.Propagator,
		Now: time.Now, Log: environment.Telemetry.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": source.Handle}, Loops: []func(context.Context) error{source.Run}}
}

// Watcher wires the watcher.
func Watcher(environment Environment) function.Program {
	handler := &watcher.Watcher{
		Runs:  environment.store(),
		Pods:  &run.Pods{Core: environment.Kubernetes.CoreV1(), MaxLogBytes: maxLogBytes, LogTimeout: logTimeout},
		Trace: watcher.Tracer{Tracer: environment.Telemetry.Tracers.Tracer("watcher"), Propagator: environment.Telemetry.Propagator},
		Now:   time.Now,
		Log:   environment.Telemetry.Log,
	}
	return function.Program{Handlers: map[string]function.Handler{"/": handler.Handle}}
}

// Fetcher is the program of Jobs' init containers.
func Fetcher(telemetry *function.Telemetry, transport http.RoundTripper) Program {
	return func(ctx context.Context, container Container) int {
		configuration := fetcher.Configuration{
			Target: container.Environment["TARGET"], BridgeURL: container.Environment["BRIDGE_URL"], Grant: container.Environment["GRANT"],
			Timeout: brokerTimeout,
		}
		err := json.Unmarshal([]byte(container.Environment["FILES"]), &configuration.Files)
		if err == nil {
			err = (&fetcher.Fetcher{
				Configuration: configuration, HTTP: &http.Client{Transport: telemetry.Transport(transport), Timeout: fetcher.CallTimeout}, Log: telemetry.Log,
			}).Run(ctx)
		}
		if err != nil {
			_, _ = fmt.Fprintln(container.Output, "fetcher:", err)
			return 1
		}
		return 0
	}
}
