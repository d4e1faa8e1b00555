package manifests

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// build builds the base with components, and decodes the objects strictly.
func build(t *testing.T, components ...string) []runtime.Object {
	t.Helper()
	content, err := Overlay(config, "", components...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, "kustomize", content)
}

// example builds one of the examples of overlays, and decodes the objects strictly.
func example(t *testing.T, name string) []runtime.Object {
	t.Helper()
	content, err := Kustomize(filepath.Join("../examples/overlays", name))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, "kustomize", content)
}

// named returns the object of a type and name.
func named[Kind interface {
	runtime.Object
	GetName() string
}](t *testing.T, objects []runtime.Object, name string) Kind {
	t.Helper()
	for _, object := range objects {
		if found, ok := object.(Kind); ok && found.GetName() == name {
			return found
		}
	}
	t.Fatalf("no %T is named %s", *new(Kind), name)
	panic("unreachable")
}

// keys returns kind, namespace and name of each object.
func keys(t *testing.T, objects []runtime.Object) []string {
	t.Helper()
	var found []string
	for _, object := range objects {
		accessor, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprintf("%T %s/%s", object, accessor.GetNamespace(), accessor.GetName()))
	}
	slices.Sort(found)
	return found
}

// The base has what ko apply -f config/ installs.
func TestBaseHasEveryManifest(t *testing.T) {
	var want []runtime.Object
	for _, inFile := range files(t, "/*.yaml") {
		want = append(want, inFile...)
	}
	if difference := cmp.Diff(keys(t, want), keys(t, build(t))); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestComponents(t *testing.T) {
	settings := func(t *testing.T, objects []runtime.Object, name string) map[string]string {
		t.Helper()
		return named[*corev1.ConfigMap](t, objects, name).Data
	}
	tests := map[string]func(t *testing.T, objects []runtime.Object){
		"remote-keptn": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			got := settings(t, objects, "keptn")
			maps.DeleteFunc(got, func(name, _ string) bool { return name == "KEPTN_SUBSCRIPTIONS" || name == "OWN_EXECUTORS" })
			if difference := cmp.Diff(map[string]string{"KEPTN_TRANSPORT": "http", "KEPTN_API_URL": "https://keptn.example.com/api"}, got); difference != "" {
				t.Error(difference)
			}
		},
		"oauth": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := settings(t, objects, "keptn")["KEPTN_OAUTH_CLIENT_ID"]; got != "job-executor" {
				t.Errorf("the client is %q", got)
			}
		},
		"monitoring": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if !slices.ContainsFunc(keys(t, objects), func(key string) bool { return strings.HasSuffix(key, "/job-executor-dashboard") }) {
				t.Errorf("no dashboard: %v", keys(t, objects))
			}
		},
		"tracing": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := settings(t, objects, "telemetry"); got["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "" || got["OTEL_TRACES_SAMPLER"] != "always_on" {
				t.Errorf("got %v", got)
			}
		},
		"limits": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := named[*corev1.ResourceQuota](t, objects, "jobs").Spec.Hard[corev1.ResourcePods]; got.Value() != 50 {
				t.Errorf("%s pods", got.String())
			}
		},
		"authentication": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if !slices.ContainsFunc(keys(t, objects), func(key string) bool {
				return strings.HasSuffix(key, "/executors-and-watcher") && strings.HasPrefix(key, "*unstructured")
			}) {
				t.Errorf("no policy: %v", keys(t, objects))
			}
		},
		"high-availability": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := named[*appsv1.Deployment](t, objects, "jobsource").Spec; *got.Replicas != 2 {
				t.Errorf("%d jobsources", *got.Replicas)
			}
			if got := named[*appsv1.Deployment](t, objects, "bridge").Spec; *got.Replicas != 2 || got.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
				t.Errorf("%d bridges, %s", *got.Replicas, got.Strategy.Type)
			}
			for _, name := range []string{"watcher", "executor-test", "executor-custom"} {
				if got := named[*servingv1.Service](t, objects, name).Spec.Template.Annotations["autoscaling.knative.dev/min-scale"]; got != "2" {
					t.Errorf("%s has a minimum of %s", name, got)
				}
			}
		},
		"natss": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			got := named[*eventingv1.Broker](t, objects, "keptn")
			if got.Annotations["eventing.knative.dev/broker.class"] != "MTChannelBasedBroker" || got.Spec.Config.Name != "broker-natss" {
				t.Errorf("got %v", got)
			}
			if channel := settings(t, objects, got.Spec.Config.Name)["channel-template-spec"]; !strings.Contains(channel, "kind: NatsJetStreamChannel") {
				t.Errorf("its channel is %s", channel)
			}
		},
		"kafka": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := named[*eventingv1.Broker](t, objects, "keptn"); got.Annotations["eventing.knative.dev/broker.class"] != "Kafka" ||
				got.Spec.Config.Name != "broker-kafka" {
				t.Errorf("got %v", got)
			}
		},
		"rabbitmq": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			if got := named[*eventingv1.Broker](t, objects, "keptn"); got.Annotations["eventing.knative.dev/broker.class"] != "RabbitMQBroker" ||
				got.Spec.Config.Name != "broker-rabbitmq" {
				t.Errorf("got %v", got)
			}
			if got := named[*corev1.Namespace](t, objects, "job-executor").Labels["pod-security.kubernetes.io/enforce"]; got != "baseline" {
				t.Errorf("the level of pod security is %s", got)
			}
			pods := metav1.LabelSelector{MatchLabels: map[string]string{"eventing.knative.dev/broker": "keptn"}}
			named[*networkingv1.NetworkPolicy](t, objects, "broker")
			for _, name := range []string{"bridge", "jobsource"} {
				got := named[*networkingv1.NetworkPolicy](t, objects, name).Spec
				from := slices.ContainsFunc(got.Ingress[0].From, func(peer networkingv1.NetworkPolicyPeer) bool {
					return equality.Semantic.DeepEqual(peer.PodSelector, &pods)
				})
				to := slices.ContainsFunc(got.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
					return len(rule.To) == 1 && equality.Semantic.DeepEqual(rule.To[0].PodSelector, &pods)
				})
				if !from || !to {
					t.Errorf("the Broker reaches %s: %t, and the other way: %t", name, from, to)
				}
			}
			for _, object := range objects {
				if trigger, ok := object.(*eventingv1.Trigger); ok && trigger.Annotations["rabbitmq.eventing.knative.dev/parallelism"] != "100" {
					t.Errorf("Trigger %s has the annotations %v", trigger.Name, trigger.Annotations)
				}
			}
		},
		"mirror": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			images := 0
			for _, object := range objects {
				var containers []corev1.Container
				switch workload := object.(type) {
				case *appsv1.Deployment:
					containers = workload.Spec.Template.Spec.Containers
				case *servingv1.Service:
					containers = workload.Spec.Template.Spec.Containers
				}
				for _, container := range containers {
					for _, variable := range append(container.Env, corev1.EnvVar{Value: container.Image}) {
						if strings.HasPrefix(variable.Value, "ko://") {
							t.Errorf("%s of %s is not in the mirror", variable.Value, container.Name)
						} else if strings.HasPrefix(variable.Value, "registry.example.com/") {
							images++
						}
					}
				}
			}
			if want := 3 + 8*2; images != want {
				t.Errorf("%d images are in the mirror, not %d", images, want)
			}
		},
		"namespaces": func(*testing.T, []runtime.Object) {}, // see the tests below
		"only-jobs": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			for _, key := range keys(t, objects) {
				if !strings.Contains(key, " job-executor-jobs/") && key != "*v1.Namespace /job-executor-jobs" {
					t.Errorf("%s is left", key)
				}
			}
		},
		"only-system": func(t *testing.T, objects []runtime.Object) {
			t.Helper()
			for _, key := range keys(t, objects) {
				if strings.Contains(key, "job-executor-jobs") {
					t.Errorf("%s is left", key)
				}
			}
		},
	}
	entries, err := os.ReadDir(config + "/overlays")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(config, "overlays", entry.Name(), "kustomization.yaml"))
		if err != nil || !strings.Contains(string(content), "kind: Component") {
			continue
		}
		check, known := tests[entry.Name()]
		if !known {
			t.Errorf("component %s has no test", entry.Name())
			continue
		}
		t.Run(entry.Name(), func(t *testing.T) { check(t, build(t, entry.Name())) })
	}
	t.Run("several at once", func(t *testing.T) {
		build(t, "remote-keptn", "oauth", "monitoring", "tracing", "limits", "authentication", "high-availability", "kafka", "mirror")
	})
}

// The component namespaces leaves an installation with its usual names alone.
func TestNamespacesAreCopiedToWhereTheyAreInTheBase(t *testing.T) {
	if difference := cmp.Diff(build(t), build(t, "namespaces")); difference != "" {
		t.Errorf("(-without +with):\n%s", difference)
	}
}

func TestTypicalOverlay(t *testing.T) {
	objects := example(t, "typical")
	if got := named[*corev1.ConfigMap](t, objects, "keptn").Data["KEPTN_API_URL"]; got != "https://keptn.shop.example.com/api" {
		t.Errorf("Keptn is at %s", got)
	}
	named[*corev1.ConfigMap](t, objects, "telemetry")
	named[*corev1.ResourceQuota](t, objects, "jobs")
}

// A further namespace of Jobs has what the first one has, for the accounts of the same functions.
func TestSeveralNamespacesOfJobs(t *testing.T) {
	objects := example(t, "several-namespaces")
	if got := named[*corev1.ConfigMap](t, objects, "jobs").Data["JOB_NAMESPACES"]; got != "job-executor-jobs,shop-jobs" {
		t.Errorf("the namespaces are %q", got)
	}
	known, alike := keys(t, objects), 0
	for _, key := range known {
		if kind, name, ok := strings.Cut(key, " job-executor-jobs/"); ok {
			alike++
			if !slices.Contains(known, kind+" shop-jobs/"+name) {
				t.Errorf("namespace shop-jobs lacks %s", key)
			}
		}
	}
	if want := 8; alike != want {
		t.Errorf("%d objects are alike, not %d", alike, want)
	}
	if got := named[*corev1.Namespace](t, objects, "shop-jobs").Labels["job-executor.github.io/jobs"]; got != "true" {
		t.Errorf("the label is %q", got)
	}
	for _, object := range objects {
		if binding, ok := object.(*rbacv1.RoleBinding); ok && binding.Subjects[0].Namespace != "job-executor" {
			t.Errorf("%s/%s is for an account in %s", binding.Namespace, binding.Name, binding.Subjects[0].Namespace)
		}
	}
}

// A second installation shares nothing with the first one.
func TestSecondInstallationSharesNothing(t *testing.T) {
	first, second := build(t), example(t, "second-keptn")
	known := keys(t, first)
	for _, key := range keys(t, second) {
		if slices.Contains(known, key) {
			t.Errorf("both have %s", key)
		}
	}
	if len(second) != len(first) {
		t.Errorf("the second installation has %d objects, and the first %d", len(second), len(first))
	}
	for _, name := range []string{"executor", "jobs"} {
		for key, value := range named[*corev1.ConfigMap](t, second, name).Data {
			if strings.Contains(strings.ReplaceAll(value, "job-executor-job ", ""), "job-executor") && key != "JOB_SERVICE_ACCOUNT" && key != "ALLOWED_LABEL" {
				t.Errorf("%s is %s", key, value)
			}
		}
	}
	for _, object := range second {
		switch typed := object.(type) {
		case *rbacv1.RoleBinding:
			if got := typed.Subjects[0].Namespace; got != "other-executor" {
				t.Errorf("%s is for an account in %s", typed.Name, got)
			}
		case *rbacv1.ClusterRoleBinding:
			if typed.Name != "other-executor-bridge" || typed.RoleRef.Name != "other-executor-bridge" || typed.Subjects[0].Namespace != "other-executor" {
				t.Errorf("got %v", typed)
			}
		case *appsv1.Deployment:
			for _, variable := range typed.Spec.Template.Spec.Containers[0].Env {
				if variable.Name == "GRANT_SUBJECTS" && variable.Value != "system:serviceaccount:other-executor:executor" {
					t.Errorf("grants are for %s", variable.Value)
				}
			}
		case *networkingv1.NetworkPolicy:
			if typed.Name == "jobs" {
				egress := typed.Spec.Egress
				if got := egress[1].To[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]; got != "other-executor" {
					t.Errorf("Jobs reach the bridge in %s", got)
				}
				if got := egress[3].To[0].NamespaceSelector.MatchExpressions[0].Values[0]; got != "other-executor" {
					t.Errorf("Jobs do not reach %s", got)
				}
			}
		}
	}
}
