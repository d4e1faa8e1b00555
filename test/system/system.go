package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	functions "github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/conformance"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/manifests"
)

// Namespaces of an installation.
const (
	Namespace     = "job-executor"
	JobsNamespace = "job-executor-jobs"
	// ConformanceNamespace has the conformance test's Broker and Jobs.
	ConformanceNamespace = "conformance"
	token                = "keptn-token" // as in test/keptn/keptn.yaml
	testHeader           = "X-Test"      // keptn.TestHeader: of requests that are none of the product's
	httpPort             = 80
	// settingLimit is how long Knative may take to apply another setting to its Deployments.
	settingLimit = 3 * time.Minute
)

// Installation is an installation on the cluster of KUBECONFIG.
type Installation struct {
	console.Keptn
	Kubernetes kubernetes.Interface
	config     *rest.Config
	http       *http.Client
	repository string
}

// Connect connects to the cluster of KUBECONFIG.
func Connect() (*Installation, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	const requestsPerSecond = 200
	config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	repository, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output() //nolint:noctx // reads a file only
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	system := &Installation{
		Kubernetes: client, config: config, http: &http.Client{Transport: transport},
		repository: strings.TrimSpace(string(repository)),
	}
	system.Keptn.Call = func(ctx context.Context, method, path string, body []byte) ([]byte, error) {
		return call(ctx, system.http, method, system.proxy("keptn", "api-gateway-nginx", httpPort)+"/api"+path, "application/json", body)
	}
	return system, nil
}

// CallKeptnDirectly calls Keptn in the cluster's network without the API server.
func (i *Installation) CallKeptnDirectly(ctx context.Context) error {
	address, err := i.ServiceAddress(ctx, "keptn", "api-gateway-nginx")
	if err != nil {
		return err
	}
	i.Keptn.Call = func(ctx context.Context, method, path string, body []byte) ([]byte, error) {
		return call(ctx, http.DefaultClient, method, fmt.Sprintf("http://%s:%d/api%s", address, httpPort, path), "application/json", body)
	}
	return nil
}

// Install applies Keptn for tests, the tracing opt-in and config/, as a user does,
// and waits until everything is ready. It may be repeated.
func (i *Installation) Install(ctx context.Context, say func(string)) error {
	say("Keptn for tests: ko apply -f test/keptn/keptn.yaml")
	if err := i.BuildAndApply(ctx, "test/keptn/keptn.yaml"); err != nil {
		return err
	}
	say("Job Executor: ko apply -f config/, with traces to Jaeger (config/tracing), until all of it is ready")
	if err := i.command(ctx, "kubectl", "apply", "-f", "config/100-namespace.yaml", "-f", "config/tracing"); err != nil {
		return err
	}
	// Jaeger has no pages here; its API returns the trace.
	link, err := json.Marshal(map[string]any{"data": map[string]string{
		"TRACE_URL": "http://" + jaegerHost + jaegerTraces + "{traceID}", "KEPTN_BRIDGE_URL": "https://keptn.example.com/bridge",
	}})
	if err != nil {
		return fmt.Errorf("encode the address of traces: %w", err)
	}
	if _, err := i.Kubernetes.CoreV1().ConfigMaps(Namespace).Patch(ctx, "telemetry", types.MergePatchType, link, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set the address of traces: %w", err)
	}
	if err := i.wait(ctx, "--for=condition=Available", "-n", "keptn", "deployment", "--all"); err != nil {
		return err
	}
	return i.applyConfig(ctx)
}

// applyConfig applies config/, and waits until all of it is ready. A Broker of RabbitMQ (BROKER=rabbitmq) needs its overlay.
func (i *Installation) applyConfig(ctx context.Context) (err error) {
	if os.Getenv("BROKER") == "rabbitmq" {
		err = i.applyOverlay(ctx, "rabbitmq")
	} else {
		err = i.BuildAndApply(ctx, "config/")
	}
	if err != nil {
		return err
	}
	return i.AwaitConfig(ctx)
}

// applyOverlay applies config/ with a component.
func (i *Installation) applyOverlay(ctx context.Context, component string) error {
	content, err := manifests.Overlay(filepath.Join(i.repository, "config"), "", component)
	if err != nil {
		return fmt.Errorf("build overlay %s: %w", component, err)
	}
	_, err = i.pipe(ctx, content, "ko", "apply", "--sbom=none", "-f", "-")
	return err
}

// AwaitConfig waits until all that config/ installs is ready.
func (i *Installation) AwaitConfig(ctx context.Context) error {
	for _, arguments := range [][]string{
		{"--for=condition=Available", "-n", Namespace, "deployment", "--all"},
		{"--for=condition=Ready", "-n", Namespace, "services.serving.knative.dev,brokers,triggers,sinkbindings", "--all"},
	} {
		if err := i.wait(ctx, arguments...); err != nil {
			return err
		}
	}
	// After a rollout, Available may still be true for the old pods.
	return i.command(ctx, "kubectl", "rollout", "status", "-n", Namespace, "deployment/bridge", "deployment/jobsource", "--timeout=180s")
}

// Release builds a release into a directory, with further options of test/release.
func (i *Installation) Release(ctx context.Context, directory, version string, options ...string) error {
	return i.command(ctx, "go", append([]string{
		"run", "./test/release", "--directory", directory, "--version", version, "--platforms", runtime.GOOS + "/" + runtime.GOARCH,
	}, options...)...)
}

// ReleaseAt is Release for an earlier commit of the repository.
func (i *Installation) ReleaseAt(ctx context.Context, commit, directory, version string) (err error) {
	within := *i
	within.repository = filepath.Join(directory, "repository")
	if err := i.command(ctx, "git", "worktree", "add", "--force", "--detach", within.repository, commit); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, i.command(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", within.repository))
	}()
	return within.Release(ctx, directory, version)
}

// releaseManifest is the file of a release that installs it.
const releaseManifest = "job-executor.yaml"

// InstallRelease applies a release with kubectl alone, and waits until the functions run its images.
func (i *Installation) InstallRelease(ctx context.Context, directory string) error {
	if err := i.command(ctx, "kubectl", "apply", "-f", filepath.Join(directory, releaseManifest)); err != nil {
		return err
	}
	return i.AwaitConfig(ctx)
}

// InstallObject applies one object of a release, and waits until the functions are ready.
func (i *Installation) InstallObject(ctx context.Context, directory, kind, name string) error {
	objects, err := resource.NewLocalBuilder().Unstructured().Flatten().
		FilenameParam(false, &resource.FilenameOptions{Filenames: []string{filepath.Join(directory, releaseManifest)}}).Do().Infos()
	if err != nil {
		return fmt.Errorf("read the release: %w", err)
	}
	index := slices.IndexFunc(objects, func(info *resource.Info) bool {
		return info.Name == name && info.Object.GetObjectKind().GroupVersionKind().Kind == kind
	})
	if index < 0 {
		return fmt.Errorf("the release has no %s %s", kind, name)
	}
	content, err := json.Marshal(objects[index].Object)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind, name, err)
	}
	if err := i.ApplyContent(ctx, content); err != nil {
		return err
	}
	return i.AwaitConfig(ctx)
}

// Uninstall deletes a release, and waits until both namespaces are gone.
func (i *Installation) Uninstall(ctx context.Context, directory string) error {
	return i.command(ctx, "kubectl", "delete", "--timeout=180s", "-f", filepath.Join(directory, releaseManifest))
}

// Kubectl returns the output of kubectl.
func (i *Installation) Kubectl(ctx context.Context, arguments ...string) (string, error) {
	output, err := i.output(ctx, "kubectl", arguments...)
	return string(output), err
}

// awaitNoChannels waits until the channels of a namespace's deleted Brokers are gone, of any kind that the cluster has.
func (i *Installation) awaitNoChannels(ctx context.Context, namespace string) error {
	kinds := "inmemorychannels"
	const durable = "natsjetstreamchannels"
	resources, err := i.Kubernetes.Discovery().ServerResourcesForGroupVersion("messaging.knative.dev/v1alpha1")
	if err == nil && slices.ContainsFunc(resources.APIResources, func(kind metav1.APIResource) bool { return kind.Name == durable }) {
		kinds += "," + durable
	}
	return i.wait(ctx, "--for=delete", "-n", namespace, kinds, "--all")
}

// InstallConformance applies the objects of the Broker's conformance test, and waits until they are ready.
func (i *Installation) InstallConformance(ctx context.Context) (conformance.Broker, error) {
	// Create the Broker again: when Triggers change, Knative 1.21 sometimes keeps old subscribers in the
	// channel, which causes duplicates.
	err := i.command(ctx, "kubectl", "delete", "brokers,triggers", "-n", ConformanceNamespace, "--all", "--ignore-not-found")
	if err == nil {
		err = i.awaitNoChannels(ctx, ConformanceNamespace)
	}
	if err == nil {
		err = i.BuildAndApply(ctx, "test/conformance/broker.yaml")
	}
	if err == nil {
		err = i.wait(ctx, "--for=condition=Available", "-n", ConformanceNamespace, "deployment", "--all")
	}
	if err == nil {
		err = i.AwaitReady(ctx, ConformanceNamespace, "brokers,triggers")
	}
	if err != nil {
		return conformance.Broker{}, err
	}
	client, address, err := i.toBroker(ctx, ConformanceNamespace, "conformance", "default")
	return conformance.Broker{HTTP: client, URL: address, SubscriberURL: i.proxy(ConformanceNamespace, "subscriber", httpPort)}, err
}

func (i *Installation) wait(ctx context.Context, arguments ...string) error {
	return i.command(ctx, "kubectl", append([]string{"wait", "--timeout=180s"}, arguments...)...)
}

func (i *Installation) command(ctx context.Context, name string, arguments ...string) error {
	_, err := i.output(ctx, name, arguments...)
	return err
}

// output runs a command and returns its output.
func (i *Installation) output(ctx context.Context, name string, arguments ...string) ([]byte, error) {
	return i.pipe(ctx, nil, name, arguments...)
}

// pipe is output for a command with an input.
func (i *Installation) pipe(ctx context.Context, input []byte, name string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir, command.Stdin = i.repository, bytes.NewReader(input)
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(arguments, " "), err, output)
	}
	return output, nil
}

// Run runs commands of a shell in the repository.
func (i *Installation) Run(ctx context.Context, commands string) error {
	return i.command(ctx, "sh", "-e", "-c", commands)
}

// BuildAndApply builds and pushes the images of manifests, and applies them.
func (i *Installation) BuildAndApply(ctx context.Context, path string) error {
	return i.command(ctx, "ko", "apply", "--sbom=none", "-f", path)
}

// InstallJobSink builds and applies Knative's JobSink, and returns a function that removes it. The cluster only
// has its definition.
func (i *Installation) InstallJobSink(ctx context.Context) (remove func(context.Context) error, err error) {
	addons := filepath.Join(i.repository, "test", "cluster", "programs", "addons")
	within := *i
	within.repository = addons // where its module is
	directory, err := within.output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "knative.dev/eventing")
	if err != nil {
		return nil, err
	}
	var arguments []string
	for _, path := range []string{"200-job-sink-serviceaccount.yaml", "roles/job-sink-clusterrole.yaml", "deployments/job-sink.yaml"} {
		arguments = append(arguments, "-f", filepath.Join(strings.TrimSpace(string(directory)), "config", "core", path))
	}
	remove = func(ctx context.Context) error {
		return within.command(ctx, "kubectl", append([]string{"delete", "--ignore-not-found"}, arguments...)...)
	}
	if err := within.command(ctx, "ko", append([]string{"apply", "--sbom=none"}, arguments...)...); err != nil {
		return remove, err
	}
	return remove, within.wait(ctx, "--for=condition=Available", "-n", "knative-eventing", "deployment/job-sink")
}

// AwaitReady waits until all objects of some kinds in a namespace are ready.
func (i *Installation) AwaitReady(ctx context.Context, namespace, kinds string) error {
	return i.wait(ctx, "--for=condition=Ready", "-n", namespace, kinds, "--all")
}

// Apply applies one of the repository's manifests.
func (i *Installation) Apply(ctx context.Context, path string) error {
	return i.command(ctx, "kubectl", "apply", "-f", path)
}

// ApplyContent applies manifests.
func (i *Installation) ApplyContent(ctx context.Context, content []byte) error {
	_, err := i.pipe(ctx, content, "kubectl", "apply", "-f", "-")
	return err
}

// Remove deletes the objects of a manifest.
func (i *Installation) Remove(ctx context.Context, path string) error {
	return i.command(ctx, "kubectl", "delete", "--ignore-not-found", "-f", path)
}

// MakeToken creates the Secret with Keptn's token by the command of config/README.md.
func (i *Installation) MakeToken(ctx context.Context) error {
	err := i.command(ctx, "kubectl", "create", "secret", "generic", "keptn", "--namespace", Namespace, "--from-literal=KEPTN_API_TOKEN="+token)
	if err != nil && strings.Contains(err.Error(), "already exists") {
		return nil
	}
	return err
}

// SetToken replaces Keptn's API token in the installation's Secret, which must exist.
func (i *Installation) SetToken(ctx context.Context, token string) error {
	change, err := json.Marshal(map[string]any{"stringData": map[string]string{"KEPTN_API_TOKEN": token}})
	if err != nil {
		return fmt.Errorf("encode the token: %w", err)
	}
	if _, err := i.Kubernetes.CoreV1().Secrets(Namespace).Patch(ctx, "keptn", types.MergePatchType, change, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("replace the token: %w", err)
	}
	return nil
}

// Token is the token that the installation has.
func (i *Installation) Token(ctx context.Context) (string, error) {
	secret, err := i.Kubernetes.CoreV1().Secrets(Namespace).Get(ctx, "keptn", metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return string(secret.Data["KEPTN_API_TOKEN"]), nil
}

// AddJobNamespace creates a namespace for Jobs as config/README.md says: with the roles and accounts of the
// first one, and listed in JOB_NAMESPACES.
func (i *Installation) AddJobNamespace(ctx context.Context, name string) error {
	core, rbac := i.Kubernetes.CoreV1(), i.Kubernetes.RbacV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"job-executor.github.io/jobs": "true"}},
	}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	roles, err := rbac.Roles(JobsNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	for index := range roles.Items {
		role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: roles.Items[index].Name}, Rules: roles.Items[index].Rules}
		if _, err := rbac.Roles(name).Create(ctx, role, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create a role: %w", err)
		}
	}
	bindings, err := rbac.RoleBindings(JobsNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list role bindings: %w", err)
	}
	for index := range bindings.Items {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: bindings.Items[index].Name}, Subjects: bindings.Items[index].Subjects, RoleRef: bindings.Items[index].RoleRef,
		}
		if _, err := rbac.RoleBindings(name).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create a role binding: %w", err)
		}
	}
	accounts, err := core.ServiceAccounts(JobsNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list service accounts: %w", err)
	}
	for index := range accounts.Items {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: accounts.Items[index].Name}}
		if _, err := core.ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create a service account: %w", err)
		}
	}
	return i.SetJobNamespaces(ctx, JobsNamespace, name)
}

// SetJobNamespaces sets JOB_NAMESPACES, and has all functions read it.
func (i *Installation) SetJobNamespaces(ctx context.Context, names ...string) error {
	if err := i.setOfJobs(ctx, "JOB_NAMESPACES", strings.Join(names, ",")); err != nil {
		return err
	}
	if err := i.Kill(ctx, "serving.knative.dev/service"); err != nil {
		return err
	}
	return i.Restart(ctx, "jobsource")
}

// SetStartDeadline sets the time for the start of a Job's pod.
func (i *Installation) SetStartDeadline(ctx context.Context, deadline time.Duration) error {
	if err := i.setOfJobs(ctx, "START_DEADLINE", deadline.String()); err != nil {
		return err
	}
	return i.Restart(ctx, "jobsource")
}

// SetMaxActiveRuns limits the active runs of a project. Executors read it when they start.
func (i *Installation) SetMaxActiveRuns(ctx context.Context, most int) error {
	if err := i.setOfJobs(ctx, "MAX_ACTIVE_RUNS_PER_PROJECT", strconv.Itoa(most)); err != nil {
		return err
	}
	return i.Restart(ctx, "jobsource")
}

// setOfJobs changes a setting of the ConfigMap jobs, which a function reads when it starts.
func (i *Installation) setOfJobs(ctx context.Context, name, value string) error {
	change, err := json.Marshal(map[string]any{"data": map[string]string{name: value}})
	if err == nil {
		_, err = i.Kubernetes.CoreV1().ConfigMaps(Namespace).Patch(ctx, "jobs", types.MergePatchType, change, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// TraceKnative enables or disables Knative's own spans. Knative's pods read the setting when they start. Our
// functions get it with the next Deployment of their revision.
func (i *Installation) TraceKnative(ctx context.Context, on bool) error {
	setting := map[string]any{"tracing-protocol": "none", "tracing-endpoint": nil, "tracing-sampling-rate": nil}
	if on {
		setting = map[string]any{"tracing-protocol": "http/protobuf", "tracing-endpoint": "http://" + jaegerName + ":4318/v1/traces", "tracing-sampling-rate": "1"}
	}
	change, err := json.Marshal(map[string]any{"data": setting})
	if err != nil {
		return fmt.Errorf("encode a setting of Knative: %w", err)
	}
	writing := map[string][]string{
		"knative-eventing": {"mt-broker-ingress", "mt-broker-filter", "imc-dispatcher"},
		"knative-serving":  {"controller", "activator"},
	}
	group, observing := errgroup.WithContext(ctx)
	for namespace, deployments := range writing {
		group.Go(func() error { return i.observe(observing, namespace, change, deployments) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return console.Eventually(ctx, settingLimit, func(ctx context.Context) error {
		deployments, err := i.Kubernetes.AppsV1().Deployments(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "serving.knative.dev/service"})
		if err != nil {
			return fmt.Errorf("list the Deployments of functions: %w", err)
		}
		for _, deployment := range deployments.Items {
			for _, container := range deployment.Spec.Template.Spec.Containers {
				for _, variable := range container.Env {
					if isTraced := strings.Contains(variable.Value, jaegerName); variable.Name == "OBSERVABILITY_CONFIG" && isTraced != on {
						return fmt.Errorf("the queue-proxy of %s still has %s", deployment.Name, variable.Value)
					}
				}
			}
		}
		return nil
	})
}

// observe changes the tracing of Knative in a namespace, and waits until its Deployments use the new setting.
func (i *Installation) observe(ctx context.Context, namespace string, change []byte, deployments []string) error {
	if _, err := i.Kubernetes.CoreV1().ConfigMaps(namespace).Patch(ctx, "config-observability", types.MergePatchType, change, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set the tracing of %s: %w", namespace, err)
	}
	for _, name := range deployments {
		if err := i.command(ctx, "kubectl", "rollout", "restart", "-n", namespace, "deployment/"+name); err != nil {
			return err
		}
	}
	for _, name := range deployments {
		if err := i.command(ctx, "kubectl", "rollout", "status", "-n", namespace, "deployment/"+name, "--timeout=180s"); err != nil {
			return err
		}
	}
	return console.Eventually(ctx, settingLimit, func(ctx context.Context) error { return i.endTerminating(ctx, namespace, deployments) })
}

// endTerminating deletes terminating pods of Deployments at once. They could finish their work for minutes. It
// returns an error if there are more pods than replicas.
func (i *Installation) endTerminating(ctx context.Context, namespace string, deployments []string) error {
	for _, name := range deployments {
		deployment, err := i.Kubernetes.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read Deployment %s: %w", name, err)
		}
		pods, err := i.Kubernetes.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(deployment.Spec.Selector)})
		if err != nil {
			return fmt.Errorf("list the pods of %s: %w", name, err)
		}
		if len(pods.Items) == int(*deployment.Spec.Replicas) {
			continue
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp == nil {
				continue
			}
			// Without a grace period the object would disappear and the containers would keep running for a while.
			err := i.Kubernetes.CoreV1().Pods(namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("end pod %s/%s: %w", namespace, pod.Name, err)
			}
		}
		return fmt.Errorf("%s has %d pods", name, len(pods.Items))
	}
	return nil
}

// CountingTime is the time after which test/keptn treats an accepted, uncounted event as lost, unless it counts
// late on request.
const CountingTime = 30 * time.Second

// KeptnAPI is the address of Keptn's API inside the cluster.
const KeptnAPI = "http://api-gateway-nginx.keptn.svc.cluster.local/api"

// UseTransport has the bridge talk to Keptn over NATS or HTTP. An event that Keptn has not counted after a time is
// lost.
func (i *Installation) UseTransport(ctx context.Context, transport string, loss time.Duration) error {
	change := map[string]any{"data": map[string]string{
		"KEPTN_TRANSPORT": transport, "KEPTN_API_URL": KeptnAPI,
		"KEPTN_LOSS_TIMEOUT": loss.String(),
	}}
	content, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode the transport: %w", err)
	}
	core := i.Kubernetes.CoreV1()
	if _, err := core.ConfigMaps(Namespace).Patch(ctx, "keptn", types.MergePatchType, content, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set the transport: %w", err)
	}
	if err := i.MakeToken(ctx); err != nil {
		return err
	}
	return i.Restart(ctx, "bridge")
}

// Pods returns the number of running pods of a function.
func (i *Installation) Pods(ctx context.Context, service string) (int, error) {
	pods, err := i.Kubernetes.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "serving.knative.dev/service=" + service})
	if err != nil {
		return 0, fmt.Errorf("list the pods of %s: %w", service, err)
	}
	return len(pods.Items), nil
}

// WaitForZero waits until functions have no pods.
func (i *Installation) WaitForZero(ctx context.Context, limit time.Duration, services ...string) error {
	return console.Eventually(ctx, limit, func(ctx context.Context) error {
		for _, service := range services {
			count, err := i.Pods(ctx, service)
			if err != nil {
				return err
			}
			if count > 0 {
				return fmt.Errorf("%s has %d pods", service, count)
			}
		}
		return nil
	})
}

// Kill ends the pods of a function without a grace period, as SIGKILL does.
func (i *Installation) Kill(ctx context.Context, selector string) error {
	err := i.Kubernetes.CoreV1().Pods(Namespace).DeleteCollection(ctx,
		metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return fmt.Errorf("kill the pods of %s: %w", selector, err)
	}
	return nil
}

// Scale sets the number of replicas of a Deployment, and waits until all are available, or all pods are gone.
func (i *Installation) Scale(ctx context.Context, deployment string, replicas int) error {
	if err := i.command(ctx, "kubectl", "scale", "-n", Namespace, "deployment/"+deployment, fmt.Sprintf("--replicas=%d", replicas)); err != nil {
		return err
	}
	if replicas == 0 {
		return i.wait(ctx, "--for=delete", "-n", Namespace, "pods", "--selector", "app.kubernetes.io/name="+deployment)
	}
	return i.awaitRollout(ctx, deployment)
}

// Restart replaces the pods of a Deployment.
func (i *Installation) Restart(ctx context.Context, deployment string) error {
	if err := i.command(ctx, "kubectl", "rollout", "restart", "-n", Namespace, "deployment/"+deployment); err != nil {
		return err
	}
	return i.awaitRollout(ctx, deployment)
}

// awaitRollout waits until all replicas are new and available.
func (i *Installation) awaitRollout(ctx context.Context, deployment string) error {
	return i.command(ctx, "kubectl", "rollout", "status", "-n", Namespace, "deployment/"+deployment, "--timeout=120s")
}

// DeleteBridge deletes the bridge's Deployment, as an uninstallation does.
func (i *Installation) DeleteBridge(ctx context.Context) error {
	return i.command(ctx, "kubectl", "delete", "--ignore-not-found", "-n", Namespace, "deployment/bridge")
}

// Elected waits until a pod holds a Lease, and returns its name.
func (i *Installation) Elected(ctx context.Context, name string) (pod string, err error) {
	const limit = time.Minute
	err = console.Eventually(ctx, limit, func(ctx context.Context) error {
		lease, err := i.Kubernetes.CoordinationV1().Leases(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read the Lease: %w", err)
		}
		holder := lease.Spec.HolderIdentity
		if holder == nil || *holder == "" {
			return fmt.Errorf("no pod holds the Lease %s", name)
		}
		pod, _, _ = strings.Cut(*holder, "_")
		return nil
	})
	return pod, err
}

// KillPod ends a pod without a grace period, as SIGKILL does.
func (i *Installation) KillPod(ctx context.Context, name string) error {
	if err := i.Kubernetes.CoreV1().Pods(Namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		return fmt.Errorf("kill pod %s: %w", name, err)
	}
	return nil
}

// Jobs are the Jobs of a Keptn context, in their order.
func (i *Installation) Jobs(ctx context.Context, keptnContext string) ([]batchv1.Job, error) {
	list, err := i.Kubernetes.BatchV1().Jobs(JobsNamespace).List(ctx, metav1.ListOptions{LabelSelector: run.ContextLabel + "=" + keptnContext})
	if err != nil {
		return nil, fmt.Errorf("list Jobs: %w", err)
	}
	run.Sort(list.Items)
	return list.Items, nil
}

// Exec runs a command in the task's container of a Job's pod.
func (i *Installation) Exec(ctx context.Context, job *batchv1.Job, command ...string) error {
	return i.command(ctx, "kubectl", append([]string{"exec", "-n", job.Namespace, "-c", run.TaskContainer, "job/" + job.Name, "--"}, command...)...)
}

// Log returns the output of a Job's container.
func (i *Installation) Log(ctx context.Context, job *batchv1.Job) (string, error) {
	core := i.Kubernetes.CoreV1()
	pods, err := core.Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
	if err != nil {
		return "", fmt.Errorf("list the pods of Job %s: %w", job.Name, err)
	}
	var log strings.Builder
	for _, pod := range pods.Items {
		content, err := core.Pods(job.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: run.TaskContainer}).DoRaw(ctx)
		if err != nil {
			return "", fmt.Errorf("read the log of pod %s: %w", pod.Name, err)
		}
		log.Write(content)
	}
	return log.String(), nil
}

// SendToBroker posts an event of Keptn to the Broker, signed as the bridge does.
func (i *Installation) SendToBroker(ctx context.Context, content []byte) error {
	keys, err := signature.Make(ctx, clientset.Of(i.Kubernetes), Namespace)
	if err != nil {
		return err
	}
	outgoing, err := functions.DecodeEvent(content)
	if err != nil {
		return err
	}
	// The signature covers the data as it appears in the event below.
	var data bytes.Buffer
	if err := json.Compact(&data, outgoing.Data()); err != nil {
		return fmt.Errorf("read the data of an event: %w", err)
	}
	if err := outgoing.SetData(event.ApplicationJSON, data.Bytes()); err != nil {
		return fmt.Errorf("set the data of an event: %w", err)
	}
	signed, err := (&signature.Party{Keys: keys, Now: time.Now}).Sign(outgoing)
	if err != nil {
		return err
	}
	if content, err = signed.MarshalJSON(); err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	client, address, err := i.toBroker(ctx, Namespace, "keptn", bridgeSender)
	if err == nil {
		_, err = call(ctx, client, http.MethodPost, address, event.ApplicationCloudEventsJSON, content)
	}
	return err
}

// proxy returns the path of a Service on the API server.
func (i *Installation) proxy(namespace, service string, port int) string {
	return fmt.Sprintf("%s/api/v1/namespaces/%s/services/http:%s:%d/proxy", strings.TrimSuffix(i.config.Host, "/"), namespace, service, port)
}

func call(ctx context.Context, client *http.Client, method, address, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("create a request: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("x-token", token)
	request.Header.Set(testHeader, "yes")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call the cluster: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, address, response.Status, content)
	}
	return content, nil
}

// ReadFiles reads files of the repository for a project.
func (i *Installation) ReadFiles(directory string) (map[string][]byte, error) {
	root := filepath.Join(i.repository, directory)
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(relative)], err = os.ReadFile(path) //nolint:gosec // below the repository
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", directory, err)
	}
	return files, nil
}
