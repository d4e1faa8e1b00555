package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/fixture"
)

const config = "../../config"

// objects decodes every manifest, by file.
func objects(t *testing.T) map[string][]runtime.Object {
	t.Helper()
	found := files(t, "/*.yaml")
	maps.Copy(found, files(t, "/*/*.yaml"))
	return found
}

// files decodes the manifests that a pattern below config/ matches, by file.
func files(t *testing.T, pattern string) map[string][]runtime.Object {
	t.Helper()
	found := map[string][]runtime.Object{}
	paths, err := filepath.Glob(config + pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(path)] = decode(t, path, content)
	}
	return found
}

// decode decodes every document, and every item of a list, strictly: a field that does not exist fails. Objects of operators
// whose kinds are in none of our modules stay unstructured.
func decode(t *testing.T, name string, content []byte) []runtime.Object {
	t.Helper()
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, eventingv1.AddToScheme, servingv1.AddToScheme, sourcesv1.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	foreign := []string{"EventPolicy", "PodMonitor", "PrometheusRule", "RabbitmqBrokerConfig"} // EventPolicy's module brings cert-manager
	var found []runtime.Object
	for documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 1<<16); ; {
		var raw runtime.RawExtension
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for decoding := []runtime.RawExtension{raw}; len(decoding) > 0; decoding = decoding[1:] {
			object, _, err := decoder.Decode(decoding[0].Raw, nil, nil)
			if runtime.IsNotRegisteredError(err) {
				object, _, err = unstructured.UnstructuredJSONScheme.Decode(decoding[0].Raw, nil, nil)
				if err == nil && !slices.Contains(foreign, object.GetObjectKind().GroupVersionKind().Kind) {
					err = fmt.Errorf("unknown kind %s", object.GetObjectKind().GroupVersionKind())
				}
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if list, ok := object.(*corev1.List); ok {
				decoding = append(decoding, list.Items...)
			} else {
				found = append(found, object)
			}
		}
	}
}

func all[Kind runtime.Object](t *testing.T) []Kind {
	t.Helper()
	var kinds []Kind
	for _, inFile := range objects(t) {
		for _, object := range inFile {
			if kind, ok := object.(Kind); ok {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

func TestEveryManifestDecodesStrictly(t *testing.T) {
	if found := objects(t); len(found) < 8 {
		t.Fatalf("only %d files were found", len(found))
	}
}

func TestEachEventReachesExactlyTheFunctionsItShould(t *testing.T) {
	triggers := all[*eventingv1.Trigger](t)
	own := strings.Split(named[*corev1.ConfigMap](t, slices.Concat(slices.Collect(maps.Values(objects(t)))...), "keptn").Data["OWN_EXECUTORS"], ",")
	triggered := func(name string) event.Event {
		task := fixture.Task
		task.Name = name
		return intake.ForTriggers(fixture.Triggered(task), task, own)
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: "jobs", Name: "a", Annotations: map[string]string{run.PlanAnnotation: `[{"namespace":"jobs","name":"a"}]`},
	}}
	observed := keptn.Observed(fixture.Task.Event(keptn.Finished, fixture.Noon, keptn.Outcome{}))
	typed := func(eventType string) event.Event {
		created := event.New()
		created.SetID("1")
		created.SetSource("s")
		created.SetType(eventType)
		return created
	}
	tests := []struct {
		name  string
		event event.Event
		want  []string
	}{
		{name: "deployment", event: triggered("deployment"), want: []string{"executor-deployment"}},
		{name: "test", event: triggered("test"), want: []string{"executor-test"}},
		{name: "release", event: triggered("release"), want: []string{"executor-release"}},
		{name: "rollback", event: triggered("rollback"), want: []string{"executor-rollback"}},
		{name: "action", event: triggered("action"), want: []string{"executor-action"}},
		{name: "get-sli", event: triggered("get-sli"), want: []string{"executor-get-sli"}},
		{name: "any other task", event: triggered("hello-world"), want: []string{"executor-custom"}},
		{name: "what triggers nothing", event: observed, want: []string{"executor-observed"}},
		{name: "a task whose name only begins like one", event: triggered("tests"), want: []string{"executor-custom"}},
		{name: "started", event: protocol.Answer{Task: fixture.Task, Phase: keptn.Started, At: fixture.Noon}.Event(), want: []string{"keptn"}},
		{name: "finished", event: protocol.Errored(fixture.Task, fixture.Noon, "no").Event(), want: []string{"keptn"}},
		{name: "an entry of the log", event: protocol.Log(fixture.Task, fixture.Noon, "no", keptn.RunSkip).Event(), want: []string{"keptn"}},
		{name: "status changed", event: typed("sh.keptn.event.test.status.changed")},
		{name: "a sequence", event: typed("sh.keptn.event.production.pipeline.triggered")},
		{name: "completion of a Job", event: protocol.Completed(job, protocol.JobFinished, fixture.Noon), want: []string{"watcher"}},
		{name: "the result of a run is asked for", event: protocol.Awaited("s", "run", nil, "", fixture.Noon), want: []string{"watcher"}},
		{name: "a run is reported", event: protocol.Reported("s", "run", "c", fixture.Noon), want: []string{"reported"}},
		{name: "cancellation of a run", event: protocol.Cancelled("s", "run", "c", fixture.Noon), want: []string{"watcher"}},
		{name: "an active run", event: protocol.Active([]*batchv1.Job{job}, fixture.Noon), want: []string{"active"}},
		{name: "something else", event: typed("com.example.other")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var reached []string
			for _, trigger := range triggers {
				// RabbitMQ's Broker knows no other filters.
				if trigger.Spec.Filter == nil || len(trigger.Spec.Filters) > 0 {
					t.Errorf("Trigger %s has other filters than spec.filter", trigger.Name)
				} else if attributes.NewAttributesFilter(trigger.Spec.Filter.Attributes).Filter(t.Context(), test.event) == eventfilter.PassFilter {
					reached = append(reached, trigger.Name)
				}
			}
			slices.Sort(reached)
			if difference := cmp.Diff(test.want, reached); difference != "" {
				t.Errorf("reached (-want +got):\n%s", difference)
			}
		})
	}
}

// passes reports whether an event passes Knative's filters. They are created for each event and not cleaned up:
// filters reorder themselves in the background, which races with the next event and with Cleanup (Knative
// 1.21).
func passes(t *testing.T, filters []eventingv1.SubscriptionsAPIFilter, passing event.Event) bool {
	t.Helper()
	return subscriptionsapi.CreateSubscriptionsAPIFilters(zap.NewNop(), filters).Filter(t.Context(), passing) == eventfilter.PassFilter
}

// eventPolicy is the relevant part of Knative's EventPolicy.
type eventPolicy struct {
	Metadata struct{ Name string }
	Spec     struct {
		Filters []eventingv1.SubscriptionsAPIFilter
	}
}

// With Knative's authentication, a function may send exactly the types that others receive from it.
func TestPoliciesAllowWhatFunctionsMaySend(t *testing.T) {
	policyOf := map[signature.Name]string{
		signature.Bridge: "bridge", signature.Jobsource: "jobsource", signature.Executor: "executors-and-watcher", signature.Watcher: "executors-and-watcher",
	}
	content, err := os.ReadFile(config + "/authentication/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var policies []eventPolicy
	for documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 1<<16); ; {
		var policy eventPolicy
		if err := documents.Decode(&policy); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, policy)
	}
	for _, eventType := range []string{
		"sh.keptn.event.test.triggered", "sh.keptn.event.test.started", "sh.keptn.event.test.finished", "sh.keptn.log.error",
		"sh.keptn.event.test.status.changed", "com.example.other",
		keptn.ObservedType, protocol.CompletedType, protocol.ActiveType, protocol.CancelledType, protocol.AwaitedType, protocol.ReportedType,
	} {
		sent := event.New()
		sent.SetID("1")
		sent.SetSource("s")
		sent.SetType(eventType)
		want, allowed := map[string]bool{}, map[string]bool{}
		for _, sender := range signature.Senders(eventType) {
			want[policyOf[sender]] = true
		}
		for _, policy := range policies {
			if passes(t, policy.Spec.Filters, sent) {
				allowed[policy.Metadata.Name] = true
			}
		}
		if difference := cmp.Diff(want, allowed); difference != "" {
			t.Errorf("who may send %s (-want +got):\n%s", eventType, difference)
		}
	}
}

func TestEveryFunctionIsClusterLocalAndScalesToZero(t *testing.T) {
	services := all[*servingv1.Service](t)
	if len(services) != 9 {
		t.Fatalf("there are %d Knative Services, not the watcher and eight executors", len(services))
	}
	for _, service := range services {
		template := service.Spec.Template
		got := map[string]string{
			"visibility": service.Labels["networking.knative.dev/visibility"],
			"min-scale":  template.Annotations["autoscaling.knative.dev/min-scale"],
		}
		if difference := cmp.Diff(map[string]string{"visibility": "cluster-local", "min-scale": "0"}, got); difference != "" {
			t.Errorf("%s (-want +got):\n%s", service.Name, difference)
		}
	}
}

func TestEveryPodIsBoundedAndRestricted(t *testing.T) {
	pods := map[string]corev1.PodSpec{}
	for _, service := range all[*servingv1.Service](t) {
		pods[service.Name] = service.Spec.Template.Spec.PodSpec
	}
	for _, deployment := range all[*appsv1.Deployment](t) {
		pods[deployment.Name] = deployment.Spec.Template.Spec
	}
	for name, pod := range pods {
		if pod.ServiceAccountName == "" || pod.ServiceAccountName == "default" {
			t.Errorf("%s has no account of its own", name)
		}
		for _, container := range pod.Containers {
			if !strings.HasPrefix(container.Image, "ko://github.com/job-executor/job-executor/functions/cmd/") {
				t.Errorf("%s is not built by ko from here, but %s", name, container.Image)
			}
			for _, list := range []corev1.ResourceList{container.Resources.Requests, container.Resources.Limits} {
				if list.Cpu().IsZero() || list.Memory().IsZero() {
					t.Errorf("%s lacks a request or a limit", name)
				}
			}
			security := container.SecurityContext
			nonRoot := security != nil && security.RunAsNonRoot != nil && *security.RunAsNonRoot ||
				pod.SecurityContext != nil && pod.SecurityContext.RunAsNonRoot != nil && *pod.SecurityContext.RunAsNonRoot
			if security == nil || !nonRoot || *security.AllowPrivilegeEscalation || !*security.ReadOnlyRootFilesystem ||
				!slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s is not restricted", name)
			}
		}
	}
}

// The executors differ in nothing but their names and filters.
func TestExecutorsAreAlike(t *testing.T) {
	var first []byte
	count := 0
	for _, service := range all[*servingv1.Service](t) {
		if !strings.HasPrefix(service.Name, "executor-") {
			continue
		}
		count++
		service.Name = "executor"
		content, err := json.Marshal(service)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = content
		}
		if difference := cmp.Diff(string(first), string(content)); difference != "" {
			t.Errorf("two executors differ:\n%s", difference)
		}
	}
	if count != 8 {
		t.Errorf("there are %d executors, not 8", count)
	}
}

func TestBaseImageIsNamedByItsDigest(t *testing.T) {
	content, err := os.ReadFile("../../.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^defaultBaseImage: \S+@sha256:[0-9a-f]{64}$`).Match(content) {
		t.Errorf("it is not in:\n%s", content)
	}
}

// Images contain the license. ko rejects symbolic links that leave kodata since version 0.19.
func TestImagesContainTheLicense(t *testing.T) {
	want, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("../../functions/cmd/*/kodata")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no kodata was found: %v", err)
	}
	for _, folder := range append(folders, "../../kodata") {
		name := filepath.Join(folder, "LICENSE")
		if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is not a regular file: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != string(want) {
			t.Errorf("%s differs from LICENSE: %v", name, err)
		}
	}
}
