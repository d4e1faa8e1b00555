package embedded

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
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
	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/fetcher"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/functions/watcher"
)

// Environment is the outside world of a function, instead of a cluster.
type Environment struct {
	Manifests Manifests
	// Variables are added to those of the manifests.
	Variables map[string]string
	// Transport makes its HTTP requests.
	Transport http.RoundTripper
	// Kubernetes is the function's cluster.
	Kubernetes kubernetes.Interface
	Telemetry  *telemetry.Signals
	// TokenFile has the token of an executor.
	TokenFile string
	// KeysDirectory has the keys of InstallKeys.
	KeysDirectory string
	// Version is that of the function's events, for another release; 0 for this one.
	Version int
	// Stream is nil if the bridge polls.
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
	// GrantSecret is the name of the Secret with the key that signs grants.
	GrantSecret = "bridge-grant-key"
	// BrokerURL is the Broker's address. A SinkBinding would set it.
	BrokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	// FetcherImage is the image of Jobs' init containers.
	FetcherImage = "fetcher"
)

// configure parses a function's configuration from its manifest, and from variables that only a cluster's pod
// has.
func configure[Configuration any](environment Environment, workload string, signer signature.Name) (Configuration, error) {
	variables := environment.Manifests.Environment(workload)
	maps.Copy(variables, map[string]string{
		"POD_NAMESPACE": systemNamespace, "POD_NAME": workload, "POD_IP": "127.0.0.1", "NODE_NAME": "node",
		"FETCHER_IMAGE": FetcherImage, "BRIDGE_TOKEN_FILE": environment.TokenFile, "K_SINK": BrokerURL,
		"SIGNING_KEYS_DIRECTORY": environment.KeysDirectory, "SIGNING_KEY_FILE": Keys(environment.KeysDirectory, signer).PrivateFile,
	})
	maps.Copy(variables, environment.Variables)
	return function.Configure[Configuration](variables)
}

// AllowedLabels are the labels in config/ of Secrets and service accounts that tasks may reference.
func AllowedLabels() map[string]string {
	return map[string]string{"job-executor.github.io/allowed": "true"}
}

// Objects returns the objects that an installation requires in its cluster.
func Objects(manifests Manifests) []runtime.Object {
	objects := []runtime.Object{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: signature.PublicKeys}}}
	for _, name := range append(signingSecrets(), GrantSecret) {
		objects = append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name}})
	}
	for _, namespace := range strings.Split(manifests.Settings["JOB_NAMESPACES"], ",") {
		// Every namespace has a service account named default.
		for _, name := range []string{"default", manifests.Settings["JOB_SERVICE_ACCOUNT"]} {
			objects = append(objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		}
	}
	return objects
}

// podToken returns the projected token of a pod.
func podToken(namespace, account, pod string) string {
	return strings.Join([]string{"token of a pod", namespace, account, pod}, "/")
}

// ReviewTokens makes a cluster accept the executor's token, which it writes to a file, and those of existing
// pods.
func ReviewTokens(k *Kubernetes, tokenFile string) error {
	k.React("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status.Audiences = review.Spec.Audiences
		if review.Spec.Token == executorToken {
			review.Status.Authenticated, review.Status.User.Username = true, executorUser
			return true, review, nil
		}
		parts := strings.Split(review.Spec.Token, "/")
		if len(parts) != len(strings.Split(podToken("", "", ""), "/")) || review.Spec.Token != podToken(parts[1], parts[2], parts[3]) {
			return true, review, nil
		}
		if _, err := k.tracker.Get(podsResource, parts[1], parts[3]); err == nil {
			review.Status.Authenticated, review.Status.User.Username = true, "system:serviceaccount:"+parts[1]+":"+parts[2]
			review.Status.User.Extra = map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/pod-name": {parts[3]}}
		}
		return true, review, nil
	})
	if err := os.WriteFile(tokenFile, []byte(executorToken), 0o600); err != nil {
		return fmt.Errorf("write the executor's token: %w", err)
	}
	return nil
}

func signingSecrets() (names []string) {
	for _, name := range signature.Names() {
		names = append(names, signature.SecretOf(name))
	}
	return names
}

// InstallKeys creates the keys of all functions like the first bridge, and writes them to files like the
// kubelet.
func InstallKeys(ctx context.Context, k *Kubernetes, directory string) error {
	client := k.Client(nil)
	if _, err := signature.Make(ctx, clientset.Of(client), systemNamespace); err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, name := range signingSecrets() {
		secret, err := client.CoreV1().Secrets(systemNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read a key: %w", err)
		}
		files[name+signature.Suffix] = secret.Data[signature.PrivateField]
	}
	public, err := client.CoreV1().ConfigMaps(systemNamespace).Get(ctx, signature.PublicKeys, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the public keys: %w", err)
	}
	for name, content := range public.Data {
		files[name] = []byte(content)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return fmt.Errorf("create the directory for keys: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
			return fmt.Errorf("write a key: %w", err)
		}
	}
	return nil
}

// Keys returns the settings for keys of InstallKeys.
func Keys(directory string, name signature.Name) signature.Settings {
	return signature.Settings{PrivateFile: filepath.Join(directory, signature.SecretOf(name)+signature.Suffix), PublicDirectory: directory}
}

// Bridge wires a single bridge that is never uninstalled.
func Bridge(ctx context.Context, environment Environment) (function.Program, error) {
	configuration, err := configure[bridge.Configuration](environment, "bridge", signature.Bridge)
	if err != nil {
		return function.Program{}, err
	}
	key, err := gateway.LoadGrantKey(ctx, environment.Kubernetes.CoreV1().Secrets(systemNamespace), configuration.Grants.Secret)
	if err != nil {
		return function.Program{}, err
	}
	keys, err := signature.Make(ctx, clientset.Of(environment.Kubernetes), systemNamespace)
	if err != nil {
		return function.Program{}, err
	}
	return bridge.New(configuration, bridge.Dependencies{
		Kubernetes: environment.Kubernetes, Transport: environment.Transport, KeptnTransport: environment.KeptnTransport,
		Telemetry: environment.Telemetry, Now: time.Now, Jitter: environment.Jitter,
	}, bridge.Connections{GrantKey: key, Keys: keys, Version: environment.Version, Stream: environment.Stream})
}

// NATS returns the stream for a bridge.
func NATS(environment Environment) (bridge.Stream, error) {
	configuration, err := configure[bridge.Configuration](environment, "bridge", signature.Bridge)
	if err != nil {
		return nil, err
	}
	return bridge.ConnectNATS(configuration, bridge.Dependencies{Telemetry: environment.Telemetry})
}

func (e Environment) client() cluster.Client {
	return clientset.Of(e.Kubernetes)
}

// Executor wires an executor by its name in the manifests.
func Executor(environment Environment, name string) (function.Program, error) {
	configuration, err := configure[executor.Configuration](environment, name, signature.Executor)
	configuration.Signing.Version = environment.Version
	return executor.New(configuration, executor.Dependencies{
		Kubernetes: environment.client(), Transport: environment.Transport, Telemetry: environment.Telemetry, Now: time.Now,
	}), err
}

// Jobsource wires jobsource.
func Jobsource(environment Environment) (function.Program, error) {
	configuration, err := configure[jobsource.Configuration](environment, "jobsource", signature.Jobsource)
	if err != nil {
		return function.Program{}, err
	}
	configuration.Signing.Version = environment.Version
	return jobsource.New(configuration, jobsource.Dependencies{
		Kubernetes: environment.client(), Transport: environment.Transport, Telemetry: environment.Telemetry, Now: time.Now,
	})
}

// Watcher wires the watcher.
func Watcher(environment Environment) (function.Program, error) {
	configuration, err := configure[watcher.Configuration](environment, "watcher", signature.Watcher)
	configuration.Signing.Version = environment.Version
	return watcher.New(configuration, watcher.Dependencies{Kubernetes: environment.client(), Telemetry: environment.Telemetry, Now: time.Now}), err
}

// Fetcher returns the program of Jobs' init containers.
func Fetcher(signals *telemetry.Signals, transport http.RoundTripper) Program {
	return func(ctx context.Context, container Container) int {
		configuration, err := function.Configure[fetcher.Configuration](container.Environment)
		if err == nil {
			err = fetcher.Run(ctx, configuration, signals, transport)
		}
		if err != nil {
			_, _ = fmt.Fprintln(container.Output, "fetcher:", err)
			return 1
		}
		return 0
	}
}
