//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// applyOverlay applies a kustomization: a base, which is a path in the repository, and further lines. In them,
// $ROOT is the repository.
func applyOverlay(t *testing.T, installed *system.Installation, base, lines string) {
	t.Helper()
	tests, err := os.Getwd()
	must(t, err)
	directory, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	root, err := filepath.Rel(directory, filepath.Join(tests, repository)) // kustomize takes no absolute path
	must(t, err)
	content := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [$ROOT/" + base + "]\n" + lines + "\n"
	content = strings.ReplaceAll(content, "$ROOT", root)
	must(t, os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(content), 0o600))
	must(t, installed.Run(t.Context(), fmt.Sprintf("kubectl kustomize %[1]q > %[1]q/all.yaml\nko apply --sbom=none -f %[1]q/all.yaml", directory)))
}

// hasOneJob checks that a namespace has the Job of a Keptn context.
func hasOneJob(t *testing.T, installed *system.Installation, namespace, keptnContext string) {
	t.Helper()
	jobs, err := installed.Kubectl(t.Context(), "get", "jobs", "--namespace", namespace, "--selector", "keptn.sh/context="+keptnContext, "--output=name")
	must(t, err)
	if strings.Count(jobs, "\n") != 1 {
		t.Errorf("the Jobs in %s are %q", namespace, jobs)
	}
}

// A project's tasks run in the namespace that the overlay adds for them.
func TestOverlayWithSeveralNamespaces(t *testing.T) {
	installed := connect(t)
	restart := func(ctx context.Context) error {
		if err := installed.Restart(ctx, "jobsource"); err != nil {
			return err
		}
		return installed.Kill(ctx, "serving.knative.dev/service")
	}
	afterTest(t, func(ctx context.Context) error {
		if err := installed.Install(ctx, func(string) {}); err != nil {
			return err
		}
		if err := installed.Run(ctx, "kubectl delete namespace shop-jobs"); err != nil {
			return err
		}
		return restart(ctx)
	})
	project := createProject(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello\n"})
	applyOverlay(t, installed, "test/examples/overlays/several-namespaces", `patches:
- target: {kind: ConfigMap, name: executor}
  patch: "- {op: replace, path: /data/PROJECT_NAMESPACES, value: `+project+`=shop-jobs}"`)
	must(t, restart(t.Context()))
	keptnContext := trigger(t, installed, project)
	succeeds(t, installed, project, keptnContext)
	hasOneJob(t, installed, "shop-jobs", keptnContext)
}

// A second installation in the same cluster answers its own Keptn's tasks, over HTTP.
func TestOverlayWithASecondInstallation(t *testing.T) {
	installed := connect(t)
	must(t, installed.Run(t.Context(), `kubectl create namespace other-executor --dry-run=client --output yaml | kubectl apply -f -
kubectl create secret generic keptn --namespace other-executor --from-literal=KEPTN_API_TOKEN=keptn-token --dry-run=client --output yaml | kubectl apply -f -`))
	afterTest(t, func(ctx context.Context) error {
		// Its bridge unregisters before it ends, and needs its rights for that.
		return installed.Run(ctx, `kubectl delete --ignore-not-found --namespace other-executor deployment/bridge
kubectl wait --for=delete --timeout=60s --namespace other-executor pods --selector app.kubernetes.io/name=bridge
kubectl delete --timeout=180s namespaces/other-executor namespaces/other-executor-jobs \
  clusterroles/other-executor-bridge clusterrolebindings/other-executor-bridge`)
	})
	applyOverlay(t, installed, "test/examples/overlays/second-keptn", `patches:
- target: {kind: ConfigMap, name: keptn}
  patch: |-
    - {op: replace, path: /data/KEPTN_API_URL, value: "`+system.KeptnAPI+`"}
    - {op: replace, path: /data/KEPTN_SUBSCRIPTIONS, value: sh.keptn.event.second.triggered}`)
	must(t, installed.Run(t.Context(), `kubectl rollout status --namespace other-executor deployment/bridge deployment/jobsource --timeout=180s
kubectl wait --for=condition=Ready --timeout=180s --namespace other-executor services.serving.knative.dev,brokers,triggers,sinkbindings --all`))
	project, keptnContext := begin(t, installed, []string{"second"}, map[string]string{
		"job/config.yaml": "apiVersion: v2\nactions:\n- {name: A, event: second.triggered, image: busybox, cmd: [echo, hello]}\n",
	})
	stageState, _ := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	hasOneJob(t, installed, "other-executor-jobs", keptnContext)
}

// The typical overlay reaches Keptn by its API, writes traces, and limits all Jobs.
func TestTypicalOverlay(t *testing.T) {
	installed := connect(t)
	afterTest(t, func(ctx context.Context) error { return installed.UseTransport(ctx, "nats", system.CountingTime) })
	reinstallAfter(t, installed)
	afterTest(t, func(ctx context.Context) error {
		return installed.Run(ctx, "kubectl delete resourcequota/jobs limitrange/jobs --namespace job-executor-jobs")
	})
	must(t, installed.MakeToken(t.Context()))
	applyOverlay(t, installed, "test/examples/overlays/typical", `patches:
- target: {kind: ConfigMap, name: keptn}
  patch: "- {op: replace, path: /data/KEPTN_API_URL, value: '`+system.KeptnAPI+`'}"`)
	must(t, installed.Restart(t.Context(), "bridge"))
	greet(t, installed) // the bridge is new
	project, keptnContext := greet(t, installed)
	traced(t, installed, keptnContext, greetingTree(project))
	used, err := installed.Kubectl(t.Context(), "get", "resourcequota", "jobs", "--namespace", system.JobsNamespace,
		"--output=jsonpath={.status.used['count/jobs\\.batch']}")
	must(t, err)
	if used == "" || used == "0" {
		t.Errorf("the quota counts %q Jobs", used)
	}
}

// With the component high-availability, each function has two pods. Whichever pod is killed, each task runs and
// ends exactly once.
func TestHighAvailability(t *testing.T) {
	installed := connect(t)
	reinstallAfter(t, installed)
	afterTest(t, func(ctx context.Context) error {
		return installed.Run(ctx, "kubectl delete poddisruptionbudget --all --namespace job-executor")
	})
	// Two pods of each executor are too many for one small node.
	applyOverlay(t, installed, "config", `components: [$ROOT/config/overlays/high-availability]
patches:
- target: {group: serving.knative.dev, kind: Service, name: executor-(action|custom|deployment|get-sli|observed|release|rollback)}
  patch: "- {op: replace, path: /spec/template/metadata/annotations/autoscaling.knative.dev~1min-scale, value: '0'}"`)
	must(t, installed.AwaitConfig(t.Context()))
	onePod := func(name string) (pod string) {
		t.Helper()
		must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
			names, err := installed.Kubectl(ctx, "get", "pods", "--namespace", system.Namespace, "--selector", "serving.knative.dev/service="+name,
				"--field-selector=status.phase=Running", "--output=jsonpath={.items[*].metadata.name}")
			found := strings.Fields(names)
			if err == nil && len(found) < 2 {
				err = fmt.Errorf("%s has the pods %v", name, found)
			}
			if err == nil {
				pod = found[0]
			}
			return err
		}))
		return pod
	}
	elected := func(name string) string {
		t.Helper()
		must(t, installed.Run(t.Context(), settled))
		pod, err := installed.Elected(t.Context(), name)
		must(t, err)
		return pod
	}
	for _, function := range []struct {
		name string
		pod  func(name string) string
	}{{"bridge", elected}, {"jobsource", elected}, {"executor-test", onePod}, {"watcher", onePod}} {
		t.Run(function.name, func(t *testing.T) {
			var took []time.Duration
			before := ""
			for range 4 {
				pod := function.pod(function.name)
				if pod == before {
					t.Errorf("%s is still there", pod)
				}
				before = pod
				project := createProject(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "two\n"})
				began := time.Now()
				keptnContext := trigger(t, installed, project)
				must(t, installed.KillPod(t.Context(), pod))
				succeeds(t, installed, project, keptnContext)
				took = append(took, time.Since(began).Round(time.Second))
			}
			t.Logf("tasks ended %v after they were triggered and a pod was killed", took)
		})
	}
}
