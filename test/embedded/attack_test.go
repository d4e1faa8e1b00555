package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	functions "github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/attack"
	"github.com/job-executor/job-executor/test/console"
)

// An attacker who reaches the Broker and the bridge, and knows everything about a task, cannot end or stop the
// task, run anything in its name, or read its files.
func TestAttacksHaveNoEffect(t *testing.T) {
	const project = "attacked"
	system := start(t, Options{})
	keptn := console.Keptn{Call: system.Call}
	end := filepath.Join(t.TempDir(), "end")
	config := fmt.Sprintf(
		"apiVersion: v2\nactions:\n- {name: Wait, event: test.triggered, files: [job], image: busybox, cmd: [sh, -c, 'until [ -e %s ]; do sleep 0.1; done']}\n",
		end,
	)
	files := map[string][]byte{"job/config.yaml": []byte(config)}
	if err := keptn.CreateProject(t.Context(), project, console.Shipyard(stage, "test"), service, []string{stage}, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := keptn.Trigger(t.Context(), project, stage, "pipeline", service, nil)
	if err != nil {
		t.Fatal(err)
	}
	awaited := func(what func(jobs []batchv1.Job, got ending) error) {
		t.Helper()
		if err := console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
			got, _, err := endingOf(ctx, keptn, project, keptnContext)
			if err != nil {
				return err
			}
			list, err := system.Cluster.Client(nil).BatchV1().Jobs("").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			return what(list.Items, got)
		}); err != nil {
			t.Fatal(err)
		}
	}
	var victim batchv1.Job
	awaited(func(jobs []batchv1.Job, got ending) error {
		if len(jobs) != 1 || jobs[0].Status.Ready == nil || *jobs[0].Status.Ready == 0 || len(got.Events) == 0 {
			return fmt.Errorf("of %d Jobs none runs yet", len(jobs))
		}
		victim = jobs[0]
		return nil
	})
	var task functions.Task
	if err := json.Unmarshal([]byte(victim.Annotations[run.TaskAnnotation]), &task); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: system.network, Timeout: flowLimit}
	got, want := map[string]int{}, map[string]int{}
	for _, request := range attack.On(task, &victim) {
		want[request.Name] = http.StatusAccepted // its outcome does not matter
		if got[request.Name], err = request.Do(client); err != nil {
			t.Fatalf("%s: %v", request.Name, err)
		}
	}
	for _, name := range []string{"read its files with its grant", "read them with its grant as a token", "get a grant"} {
		want[name] = http.StatusUnauthorized
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("answers (-want +got):\n%s", difference)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	awaited(func(jobs []batchv1.Job, got ending) error {
		if difference := cmp.Diff(ending{Stage: "succeeded", Events: []string{"test.started ", "test.finished pass"}}, got); difference != "" {
			return fmt.Errorf("Keptn was told (-want +got):\n%s", difference)
		}
		if len(jobs) != 1 || jobs[0].UID != victim.UID || !run.IsReported(&jobs[0]) {
			return fmt.Errorf("there are %d Jobs, or it is not reported", len(jobs))
		}
		return nil
	})
}
