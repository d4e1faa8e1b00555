package embedded

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/job-executor/job-executor/test/console"
)

// Each file has the Job of a task as an earlier release created it. This release reports its end.
func TestJobsOfEarlierReleasesAreReported(t *testing.T) {
	names, err := filepath.Glob("testdata/jobs/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no Jobs: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			// No executor gets the task.
			system := start(t, Options{Settings: map[string]string{"KEPTN_SUBSCRIPTIONS": "sh.keptn.event.deployment.triggered"}})
			keptn := console.Keptn{Call: system.Call}
			const project = "shop"
			keptnContext := begin(t, keptn, project, "apiVersion: v2\nactions: []\n")
			var triggered console.Event
			if err := console.Eventually(t.Context(), flowLimit, func(ctx context.Context) error {
				events, err := keptn.Events(ctx, keptnContext)
				if err != nil {
					return err
				}
				index := slices.IndexFunc(events, func(event console.Event) bool { return event.Type == "sh.keptn.event.test.triggered" })
				if index < 0 {
					return errors.New("the task is not triggered")
				}
				triggered = events[index]
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			content = bytes.ReplaceAll(content, []byte("TRIGGERED"), []byte(triggered.ID))
			content = bytes.ReplaceAll(content, []byte("CONTEXT"), []byte(keptnContext))
			job := &batchv1.Job{}
			if err := runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), content, job); err != nil {
				t.Fatal(err)
			}
			if _, err := system.Cluster.Client(nil).BatchV1().Jobs(job.Namespace).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			awaitFinished(t, keptn, project, keptnContext)
			got, events, err := endingOf(t.Context(), keptn, project, keptnContext)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff([]string{"test.started ", "test.finished pass"}, got.Events); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if message := events[len(events)-1].Data.Message; !bytes.Contains([]byte(message), []byte("hello")) {
				t.Errorf("the message is %q", message)
			}
		})
	}
}
