//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/job-executor/job-executor/test/system"
)

const overlays = "test/examples/overlays/"

// applyOverlay applies an example with patches of its ConfigMaps.
func applyOverlay(t *testing.T, installed *system.Installation, name string, patches ...string) {
	t.Helper()
	repository, err := os.Getwd()
	must(t, err)
	directory, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	base, err := filepath.Rel(directory, filepath.Join(repository, "../..", overlays, name)) // kustomize takes no absolute path
	must(t, err)
	content := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + base + "]\npatches:\n" + strings.Join(patches, "\n") + "\n"
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
	applyOverlay(t, installed, "several-namespaces", `- target: {kind: ConfigMap, name: executor}
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
		return installed.Run(ctx, `kubectl delete --timeout=180s namespaces/other-executor namespaces/other-executor-jobs \
  clusterroles/other-executor-bridge clusterrolebindings/other-executor-bridge`)
	})
	applyOverlay(t, installed, "second-keptn", `- target: {kind: ConfigMap, name: keptn}
  patch: |-
    - {op: replace, path: /data/KEPTN_API_URL, value: "http://api-gateway-nginx.keptn.svc.cluster.local/api"}
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
