//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

const (
	formerName      = "job-executor-service"
	formerNamespace = "jes"
)

// Sequences run all the time while the commands of the plan of job-executor migrate move an installation made from the chart's objects.
// Each task runs once, in the old service or in the new one. helm is missing, so the objects of its release are deleted.
func TestMigrationFromJobExecutorService(t *testing.T) {
	installed := connect(t)
	reinstallAfter(t, installed)
	// Keptn keeps the subscriptions of a registered integration: the next installation must not find those of the plan.
	afterTest(t, func(ctx context.Context) error {
		if err := installed.DeleteBridge(ctx); err != nil {
			return err
		}
		return unregistered(ctx, installed)
	})
	directory, programs := t.TempDir(), t.TempDir()
	must(t, installed.Release(t.Context(), directory, "v0.0.1-test"))
	program, err := os.ReadFile(filepath.Join(directory, "job-executor-"+runtime.GOOS+"-"+runtime.GOARCH))
	must(t, err)
	for _, name := range []string{"job-executor", "kubectl-job_executor"} {
		must(t, os.WriteFile(filepath.Join(programs, name), program, 0o755))
	}
	must(t, installed.Uninstall(t.Context(), directory))
	awaitUnregistered(t, installed)
	afterTest(t, func(ctx context.Context) error { return installed.Remove(ctx, "test/jes/jes.yaml") })
	must(t, installed.Unregister(t.Context(), formerName)) // of an earlier run
	must(t, installed.BuildAndApply(t.Context(), "test/jes/jes.yaml"))
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		former, err := installed.Integration(ctx, formerName)
		if err == nil && former == nil {
			err = fmt.Errorf("%s has not registered", formerName)
		}
		return err
	}))
	const objects = "secret/migrated serviceaccount/migrated"
	must(t, installed.Run(t.Context(), "kubectl create secret generic migrated --namespace "+formerNamespace+" --from-literal=WORD=hello\n"+
		"kubectl create serviceaccount migrated --namespace "+formerNamespace))
	afterTest(t, func(ctx context.Context) error {
		return installed.Run(ctx, "kubectl delete --ignore-not-found --namespace "+system.JobsNamespace+" "+objects)
	})
	contexts := map[string]string{} // by project
	trigger := func() {
		t.Helper()
		project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Greet
    events: [{name: sh.keptn.event.test.triggered}]
    tasks: [{name: Greet, image: busybox, cmd: [sh, -c, "sleep 2; echo hello"], env: [{name: migrated, valueFrom: secret}], serviceAccount: migrated}]
`})
		contexts[project] = keptnContext
	}
	for range 5 {
		trigger()
	}
	values := filepath.Join(directory, "values.yaml")
	must(t, os.WriteFile(values, []byte(`subscription: {pubsubTopic: sh.keptn.event.test.triggered}
remoteControlPlane: {autoDetect: {enabled: true, namespace: keptn}}
`), 0o600))
	gateway, err := installed.ServiceAddress(t.Context(), "keptn", "api-gateway-nginx")
	must(t, err)
	run := func(ctx context.Context, commands string) error {
		return installed.Run(ctx, fmt.Sprintf("export PATH=%q:$PATH KEPTN_ENDPOINT=http://%s/api KEPTN_API_TOKEN=keptn-token\ncd %q\n%s",
			programs, gateway, directory, commands))
	}
	must(t, run(t.Context(), "kubectl job-executor migrate --values values.yaml --release-namespace "+formerNamespace+" --output-directory ."))
	plan, err := os.ReadFile(filepath.Join(directory, "PLAN.md"))
	must(t, err)
	body, _, _ := strings.Cut(string(plan), "\n## Back\n")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(body, -1)
	if len(blocks) < 5 {
		t.Fatalf("the plan has only %d steps with commands:\n%s", len(blocks), plan)
	}
	for _, block := range blocks {
		trigger()
		commands := block[1]
		switch {
		case strings.HasPrefix(commands, "kubectl get jobs"):
			must(t, run(t.Context(), "sleep 60")) // as the plan says
			must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error { return run(ctx, `test -z "$(`+commands+`)"`) }))
			must(t, run(t.Context(), "sleep 60"))
		case strings.HasPrefix(commands, "kubectl get secret"), strings.HasPrefix(commands, "kubectl get serviceaccount"):
			// Projects of other tests reference further objects, which never existed in this namespace.
			copies := ""
			for line := range strings.Lines(commands) {
				if strings.Contains(line, " migrated --namespace") {
					copies += line
				}
			}
			compare(t, "copied objects", 2, strings.Count(copies, "\n"))
			must(t, run(t.Context(), copies))
		case strings.HasPrefix(commands, "helm uninstall"):
			must(t, installed.Remove(t.Context(), "test/jes/jes.yaml"))
		default:
			t.Log(commands)
			must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error { return run(ctx, commands) }))
		}
	}
	trigger()
	ran := map[bool]int{} // the number of tasks, by whether the old service ran them
	for project, keptnContext := range contexts {
		must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
			events, err := installed.Events(ctx, keptnContext)
			if err != nil {
				return err
			}
			sources := map[string][]string{}
			for _, event := range events {
				sources[event.Type] = append(sources[event.Type], event.Source)
				if event.Type == "sh.keptn.event.test.finished" && event.Data.Result != "pass" {
					t.Errorf("project %s: %s", project, event.Data.Message)
				}
			}
			started, finished := sources["sh.keptn.event.test.started"], sources["sh.keptn.event.test.finished"]
			if len(started) != 1 || len(finished) != 1 || started[0] != finished[0] {
				return fmt.Errorf("project %s: started by %v, finished by %v", project, started, finished)
			}
			ran[started[0] == formerName]++
			return nil
		}))
	}
	if ran[true] < 5 || ran[false] < 3 {
		t.Errorf("the old service ran %d tasks, and the new one %d", ran[true], ran[false])
	}
}
