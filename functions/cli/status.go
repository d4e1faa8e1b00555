package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/job-executor/job-executor/functions/run"
)

// defaultSystemNamespace is the namespace of the functions in config/.
const defaultSystemNamespace = "job-executor"

// part is a line about a part of the installation.
type part struct {
	kind, name, version string
	isReady             bool
	// why is the reason if it is not ready.
	why string
}

func (c *commander) status() *cobra.Command {
	var system string
	command := &cobra.Command{
		Use: "status", Short: "Check the installation: functions, Broker, Keptn, and what waits", GroupID: groupInstallation, Args: cobra.NoArgs,
		Long: "Checks the installation: which version each function has, whether it is ready, and why not; what the bridge complains of; which runs wait, and\n" +
			"since when. With Keptn's API, also when Keptn last saw the bridge, and its subscriptions.\n\nThe exit code is 1 if a part is not ready.",
		Example: "  job-executor status\n  job-executor status --system-namespace other-executor --namespace other-jobs",
		RunE: func(command *cobra.Command, _ []string) error {
			clients, namespace, err := c.connect()
			if err != nil {
				return err
			}
			ctx := command.Context()
			parts, err := partsOf(ctx, clients, system)
			if err != nil {
				return err
			}
			if len(parts) == 0 {
				return fmt.Errorf("namespace %s has no Job Executor; name its namespace with --system-namespace", system)
			}
			table := c.newTable()
			fmt.Fprintln(table, "KIND\tNAME\tREADY\tVERSION\tREASON")
			ready := map[bool]string{true: "yes", false: "no"}
			allReady := true
			for _, p := range parts {
				allReady = allReady && p.isReady
				fmt.Fprintln(table, strings.TrimRight(strings.Join([]string{p.kind, p.name, ready[p.isReady], p.version, p.why}, "\t"), "\t"))
			}
			_ = table.Flush()
			isSeen := c.writeKeptn(ctx)
			c.writeComplaints(ctx, clients, system)
			runs, err := fetch(ctx, clients.Kubernetes, namespace, run.Selector)
			if err != nil {
				return err
			}
			c.writeWaits(runs)
			if !allReady || !isSeen {
				return &ExitError{Code: exitFail}
			}
			return nil
		},
	}
	command.Flags().StringVar(&system, "system-namespace", defaultSystemNamespace, "the namespace of the functions")
	command.Flags().BoolVarP(&c.allNamespaces, "all-namespaces", "A", false, "look for runs in all namespaces")
	c.keptn.add(command.Flags())
	return command
}

// partsOf returns the Deployments of a namespace, and its objects of Knative.
func partsOf(ctx context.Context, clients Cluster, namespace string) ([]part, error) {
	var parts []part
	deployments, err := clients.Kubernetes.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=job-executor,!serving.knative.dev/service", // those of Knative are in its Services
	})
	if err != nil {
		return nil, fmt.Errorf("list the Deployments in namespace %s: %w", namespace, err)
	}
	for index := range deployments.Items {
		found := &deployments.Items[index]
		isReady := found.Status.ReadyReplicas > 0 && found.Status.UpdatedReplicas == found.Status.Replicas
		p := part{kind: "Deployment", name: found.Name, version: versionOf(found.Labels, found.Spec.Template.Spec.Containers[0].Image), isReady: isReady}
		if !isReady {
			p.why = whyNotReady(ctx, clients, found)
		}
		parts = append(parts, p)
	}
	for _, kind := range []struct {
		name     string
		resource schema.GroupVersionResource
	}{
		{"Service", schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}},
		{"Broker", schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}},
		{"Trigger", schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"}},
	} {
		list, err := clients.Knative.Resource(kind.resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the %s of Knative in namespace %s: %w", kind.resource.Resource, namespace, err)
		}
		first := len(parts)
		for _, object := range list.Items {
			p := part{kind: kind.name, name: object.GetName()}
			p.isReady, p.why = readyOf(object)
			if kind.name == "Service" {
				p.version = versionOf(object.GetLabels(), imageOf(object))
			}
			parts = append(parts, p)
		}
		// One line stands for all Triggers if they are ready.
		if count := len(parts) - first; kind.name == "Trigger" && count > 1 && !slices.ContainsFunc(parts[first:], func(p part) bool { return !p.isReady }) {
			parts = append(parts[:first], part{kind: kind.name, name: fmt.Sprintf("all %d", count), isReady: true})
		}
	}
	return parts, nil
}

// readyOf returns the condition Ready of an object of Knative.
func readyOf(object unstructured.Unstructured) (isReady bool, why string) {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range conditions {
		condition, _ := entry.(map[string]any)
		if condition["type"] != "Ready" {
			continue
		}
		reason, _ := condition["reason"].(string)
		message, _ := condition["message"].(string)
		return condition["status"] == "True", strings.TrimSuffix(strings.TrimPrefix(reason+": "+message, ": "), ": ")
	}
	return false, "Knative has not looked at it yet"
}

// versionOf returns the version of a function: its label, or else the digest or tag of its image.
func versionOf(labels map[string]string, image string) string {
	if version := labels["app.kubernetes.io/version"]; version != "" {
		return version
	}
	const shown = len("sha256:") + 12
	if _, digest, hasDigest := strings.Cut(image, "@"); hasDigest {
		return digest[:min(len(digest), shown)]
	}
	_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return tag
}

// imageOf returns the image of a Service of Knative.
func imageOf(service unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(service.Object, "spec", "template", "spec", "containers")
	if len(containers) == 0 {
		return ""
	}
	container, _ := containers[0].(map[string]any)
	image, _ := container["image"].(string)
	return image
}

// whyNotReady returns why the pods of a Deployment are not ready, from their containers or Kubernetes' events.
func whyNotReady(ctx context.Context, clients Cluster, deployment *appsv1.Deployment) string {
	selector := metav1.FormatLabelSelector(deployment.Spec.Selector)
	pods, err := clients.Kubernetes.CoreV1().Pods(deployment.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return "its pods cannot be listed: " + err.Error()
	}
	if len(pods.Items) == 0 {
		return "it has no pods"
	}
	pod := &pods.Items[len(pods.Items)-1]
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch waiting, last := status.State.Waiting, status.LastTerminationState.Terminated; {
		case waiting != nil && last != nil && last.Message != "":
			return fmt.Sprintf("%s: %s", waiting.Reason, strings.TrimSpace(last.Message))
		case waiting != nil:
			return strings.TrimSuffix(waiting.Reason+": "+waiting.Message, ": ")
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return condition.Reason + ": " + condition.Message
		}
	}
	return "its readiness probe fails; see its log below"
}

// writeKeptn writes what Keptn says of the bridge. It returns false if Keptn hears nothing from the
// bridge.
func (c *commander) writeKeptn(ctx context.Context) bool {
	client, err := c.keptnClient()
	if errors.Is(err, errNoKeptn) {
		fmt.Fprintf(c.Out, "\nKeptn: not asked; %v\n", err)
		return true
	}
	integrations, err := client.Integrations(ctx, "job-executor")
	if err != nil {
		fmt.Fprintf(c.Out, "\nKeptn: it cannot be asked: %v\n", err)
		return false
	}
	if len(integrations) == 0 {
		fmt.Fprintln(c.Out, "\nKeptn: no integration job-executor is registered; see the log of the bridge")
		return false
	}
	isSeen := false
	for _, found := range integrations {
		// Keptn forgets an integration that it has not heard of for minutes; pings come every ten seconds.
		const late = time.Minute
		ago := c.Now().Sub(found.MetaData.LastSeen)
		isSeen = isSeen || ago < late
		fmt.Fprintf(c.Out, "\nKeptn: integration %s, version %s, last seen %s ago\n", found.Name, found.MetaData.IntegrationVersion, duration.HumanDuration(ago))
		for _, subscription := range found.Subscriptions {
			fmt.Fprintf(c.Out, "  %s%s\n", subscription.Event, filterOf(subscription.Filter))
		}
	}
	return isSeen
}

func filterOf(of models.EventSubscriptionFilter) string {
	var parts []string
	for name, values := range map[string][]string{"projects": of.Projects, "stages": of.Stages, "services": of.Services} {
		if len(values) > 0 {
			parts = append(parts, name+" "+strings.Join(values, ", "))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	slices.Sort(parts)
	return ", only " + strings.Join(parts, "; ")
}

// complainedWithin is how old a complaint may be, and maxComplaints how many are written.
const (
	complainedWithin = 10 * time.Minute
	maxComplaints    = 5
)

// writeComplaints writes the newest warnings and errors of the bridge, which is the only function that talks to Keptn.
func (c *commander) writeComplaints(ctx context.Context, clients Cluster, namespace string) {
	pods, err := clients.Kubernetes.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=bridge"})
	if err != nil {
		fmt.Fprintf(c.Out, "\nThe log of the bridge cannot be read: %v\n", err)
		return
	}
	var complaints []string
	for _, pod := range pods.Items {
		stream, err := clients.Kubernetes.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
			SinceSeconds: new(int64(complainedWithin.Seconds())), TailLines: new(int64(maxLogLines)),
		}).Stream(ctx)
		if err != nil {
			continue // it has not started
		}
		complaints = append(complaints, complaintsOf(stream)...)
		_ = stream.Close()
	}
	if len(complaints) == 0 {
		return
	}
	fmt.Fprintf(c.Out, "\nWarnings and errors of the bridge within %s (config/TROUBLESHOOTING.md explains each):\n", duration.HumanDuration(complainedWithin))
	for _, line := range complaints[max(0, len(complaints)-maxComplaints):] {
		fmt.Fprintln(harmless{c.Out}, "  "+line)
	}
}

// maxLogLines and maxLogBytes bound how much of a log is read.
const (
	maxLogLines = 10000
	maxLogBytes = 8 << 20
)

func complaintsOf(log io.Reader) []string {
	var complaints []string
	lines := bufio.NewScanner(io.LimitReader(log, maxLogBytes))
	lines.Buffer(nil, maxLogBytes)
	for lines.Scan() {
		var entry struct {
			Time              time.Time
			Level, Msg, Error string
		}
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Level != "WARN" && entry.Level != "ERROR" {
			continue
		}
		line := entry.Time.UTC().Format(time.TimeOnly) + " " + entry.Level + " " + entry.Msg
		if entry.Error != "" {
			line += ": " + entry.Error
		}
		complaints = append(complaints, line)
	}
	return complaints
}

// writeWaits writes how many runs there are, and since when some wait.
func (c *commander) writeWaits(runs []taskRun) {
	counts := map[string]int{}
	oldest := map[string]time.Time{}
	for index := range runs {
		found := &runs[index]
		what, since := found.Status, found.began()
		switch {
		case found.isSettled():
			continue
		case found.HasEnded:
			what, since = "ended, but not reported to Keptn", found.Ended
		}
		counts[what]++
		if known := oldest[what]; known.IsZero() || since.Before(known) {
			oldest[what] = since
		}
	}
	fmt.Fprintln(c.Out)
	if len(counts) == 0 {
		fmt.Fprintln(c.Out, "Runs: nothing runs or waits")
		return
	}
	for _, what := range []string{statusCreating, statusQueued, statusRunning, "ended, but not reported to Keptn"} {
		if counts[what] > 0 {
			fmt.Fprintf(c.Out, "Runs: %d %s, the oldest since %s\n", counts[what], what, duration.HumanDuration(c.Now().Sub(oldest[what])))
		}
	}
}
