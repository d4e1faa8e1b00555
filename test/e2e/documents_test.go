//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/test/documents"
	"github.com/job-executor/job-executor/test/system"
)

// operatorTypes stand for the Prometheus operator's.
const operatorTypes = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: podmonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PodMonitor, plural: podmonitors}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PrometheusRule, plural: prometheusrules}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// settled waits until the functions that always run are ready.
const settled = "kubectl rollout status --namespace job-executor deployment/bridge deployment/jobsource --timeout=180s"

// The commands of the documents work on an installation, and leave it working.
func TestDocumentedCommands(t *testing.T) {
	installed := connect(t)
	secrets := installed.Kubernetes.CoreV1().Secrets(system.JobsNamespace)
	_, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "aws-credentials"}}, metav1.CreateOptions{})
	must(t, err)
	afterTest(t, func(ctx context.Context) error { return secrets.Delete(ctx, "aws-credentials", metav1.DeleteOptions{}) })
	types := filepath.Join(t.TempDir(), "types.yaml")
	must(t, os.WriteFile(types, []byte(operatorTypes), 0o600))
	must(t, installed.Apply(t.Context(), types))
	afterTest(t, func(ctx context.Context) error { return installed.Remove(ctx, types) })
	must(t, installed.Run(t.Context(), "kubectl wait --for=condition=Established crd/podmonitors.monitoring.coreos.com crd/prometheusrules.monitoring.coreos.com"))
	afterTest(t, func(ctx context.Context) error {
		return installed.Run(ctx, "kubectl scale --namespace job-executor deployment/bridge --replicas=1\n"+settled)
	})
	ran := 0
	for _, name := range []string{"README.md", "config/README.md", "config/monitoring/README.md", "config/tracing/README.md"} {
		content, err := os.ReadFile(filepath.Join(repository, name))
		must(t, err)
		for _, block := range documents.BlocksOf(name, string(content)) {
			if block.Mark != "cluster" {
				continue
			}
			t.Logf("%s: %s", block, block.Text)
			must(t, installed.Run(t.Context(), block.Text))
			must(t, installed.Run(t.Context(), settled))
			ran++
		}
	}
	if ran == 0 {
		t.Error("no document has a command for the cluster")
	}
	project, keptnContext := begin(t, installed, []string{"deployment"}, acting(`{name: T, image: busybox, cmd: [echo, hello]}`))
	stageState, _ := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
}
