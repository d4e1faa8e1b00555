package embedded

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/bridge/gateway"
	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/fetcher"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/watcher"
)

// Environment is what a function is wired to here, where its main would wire it
// to a cluster.
type Environment struct {
	Manifests Manifests
	// Variables are set besides those of the manifests.
	Variables map[string]string
	// Transport makes its HTTP requests.
	Transport http.RoundTripper
	// Kubernetes is its cluster.
	Kubernetes kubernetes.Interface
	Telemetry  *function.Telemetry
	// TokenFile holds the token that identifies an executor.
	TokenFile string
	// Stream is nil where the bridge polls.
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
	// BrokerURL is the Broker's address, which a SinkBinding would tell.
	BrokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	// FetcherImage is the image of Jobs' init containers.
	FetcherImage = "fetcher"
)

// configure reads a function's configuration from what its manifest says, and from what
// only a pod of a cluster knows.
func configure[Configuration any](environment Environment, workload string) (Configuration, error) {
	variables := environment.Manifests.Environment(workload)
	maps.Copy(variables, map[string]string{
		"POD_NAMESPACE": systemNamespace, "POD_NAME": workload, "POD_IP": "127.0.0.1", "NODE_NAME": "node",
		"FETCHER_IMAGE": FetcherImage, "BRIDGE_TOKEN_FILE": environment.TokenFile, "K_SINK": BrokerURL,
	})
	maps.Copy(variables, environment.Variables)
	return function.Configure[Configuration](variables)
}

// Objects are what an installation needs to find in its cluster.
func Objects(manifests Manifests) []runtime.Object {
	objects := []runtime.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: grantSecret}}}
	for _, namespace := range strings.Split(manifests.Settings["JOB_NAMESPACES"], ",") {
		// Every namespace has the account default.
		for _, name := range []string{"default", manifests.Settings["JOB_SERVICE_ACCOUNT"]} {
			objects = append(objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		}
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

// Bridge wires the bridge. It is never taken away, and there is only one.
func Bridge(ctx context.Context, environment Environment) (function.Program, error) {
	configuration, err := configure[bridge.Configuration](environment, "bridge")
	if err != nil {
		return function.Program{}, err
	}
	key, err := gateway.LoadGrantKey(ctx, environment.Kubernetes.CoreV1().Secrets(systemNamespace), configuration.Grants.Secret)
	if err != nil {
		return function.Program{}, err
	}
	return bridge.New(configuration, bridge.Dependencies{
		Kubernetes: environment.Kubernetes, GrantKey: key, Transport: environment.Transport, KeptnTransport: environment.KeptnTransport,
		Stream: environment.Stream, Uninstalled: func(context.Context) bool { return false },
		Telemetry: environment.Telemetry, Now: time.Now, Jitter: environment.Jitter,
	})
}

// NATS returns the stream of a bridge that is not wired yet.
func NATS(environment Environment) (bridge.Stream, error) {
	configuration, err := configure[bridge.Configuration](environment, "bridge")
	if err != nil {
		return nil, err
	}
	return bridge.ConnectNATS(configuration, bridge.Dependencies{Telemetry: environment.Telemetry})
}

func (environment Environment) clients() cluster.Clients {
	return cluster.Clients{Batch: environment.Kubernetes.BatchV1(), Core: environment.Kubernetes.CoreV1()}
}

// Executor wires an executor, by the name that it has in the manifests.
func Executor(environment Environment, name string) (function.Program, error) {
	configuration, err := configure[executor.Configuration](environment, name)
	return executor.New(configuration, executor.Dependencies{
		Kubernetes: environment.clients(), Transport: environment.Transport, Telemetry: environment.Telemetry, Now: time.Now,
	}), err
}

// Jobsource wires jobsource.
func Jobsource(environment Environment) (function.Program, error) {
	configuration, err := configure[jobsource.Configuration](environment, "jobsource")
	if err != nil {
		return function.Program{}, err
	}
	return jobsource.New(configuration, jobsource.Dependencies{
		Kubernetes: environment.Kubernetes, Transport: environment.Transport, Telemetry: environment.Telemetry, Now: time.Now,
	})
}

// Watcher wires the watcher.
func Watcher(environment Environment) (function.Program, error) {
	configuration, err := configure[watcher.Configuration](environment, "watcher")
	return watcher.New(configuration, watcher.Dependencies{Kubernetes: environment.clients(), Telemetry: environment.Telemetry, Now: time.Now}), err
}

// Fetcher is the program of Jobs' init containers.
func Fetcher(telemetry *function.Telemetry, transport http.RoundTripper) Program {
	return func(ctx context.Context, container Container) int {
		configuration, err := function.Configure[fetcher.Configuration](container.Environment)
		if err == nil {
			err = fetcher.Run(ctx, configuration, telemetry, transport)
		}
		if err != nil {
			_, _ = fmt.Fprintln(container.Output, "fetcher:", err)
			return 1
		}
		return 0
	}
}
