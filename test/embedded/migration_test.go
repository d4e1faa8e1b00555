package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/cli"
	"github.com/job-executor/job-executor/test/commands"
	"github.com/job-executor/job-executor/test/console"
)

const formerName = "job-executor-service"

// formerService stands in for job-executor-service: it polls the open events of its subscriptions, starts each
// once, and finishes it a little later. Like the original, it remembers its tasks only in memory.
type formerService struct {
	call  func(ctx context.Context, method, path string, body []byte) ([]byte, error)
	id    string
	seen  map[string]bool
	tasks sync.WaitGroup
}

func (f *formerService) exchange(ctx context.Context, method, path string, body, answer any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	received, err := f.call(ctx, method, path, content)
	if err != nil {
		return err
	}
	return json.Unmarshal(received, answer)
}

const registrations = "/controlPlane/v1/uniform/registration"

func (f *formerService) register(ctx context.Context, eventType string) error {
	var answer struct{ ID string }
	err := f.exchange(ctx, http.MethodPost, registrations, map[string]any{
		"name": formerName, "metadata": map[string]any{"hostname": "node", "kubernetesmetadata": map[string]any{"namespace": "keptn"}},
		"subscriptions": []any{map[string]any{"event": eventType}},
	}, &answer)
	f.id, f.seen = answer.ID, map[string]bool{}
	return err
}

// poll lists events once, and returns the number of subscriptions.
func (f *formerService) poll(ctx context.Context) (int, error) {
	var own models.Integration
	if err := f.exchange(ctx, http.MethodPut, registrations+"/"+f.id+"/ping", nil, &own); err != nil {
		return 0, err
	}
	for _, subscription := range own.Subscriptions {
		var open struct{ Events []map[string]any }
		if err := f.exchange(ctx, http.MethodGet, "/controlPlane/v1/event/triggered/"+subscription.Event, nil, &open); err != nil {
			return 0, err
		}
		for _, event := range open.Events {
			if id := fmt.Sprint(event["id"]); !f.seen[id] {
				f.seen[id] = true
				f.tasks.Go(func() { f.run(ctx, event) })
			}
		}
	}
	return len(own.Subscriptions), nil
}

// run answers an event after a while, as if its task had run.
func (f *formerService) run(ctx context.Context, triggered map[string]any) {
	time.Sleep(2 * dispatchDelay) // Keptn lists an event before it accepts its answers (recording 30-started-too-early-dropped)
	data, _ := triggered["data"].(map[string]any)
	for _, phase := range []string{"started", "finished"} {
		if phase == "finished" {
			data["status"], data["result"] = "succeeded", "pass"
			time.Sleep(300 * time.Millisecond) // the task
		}
		_ = f.exchange(ctx, http.MethodPost, "/v1/event", map[string]any{
			"specversion": "1.0", "source": formerName, "type": strings.Replace(fmt.Sprint(triggered["type"]), "triggered", phase, 1), "contenttype": "application/json",
			"shkeptncontext": triggered["shkeptncontext"], "triggeredid": triggered["id"], "data": data,
		}, &struct{}{})
	}
}

// Sequences run all the time while a person follows the plan of job-executor migrate. Each task runs once, in the
// old service or in the new one.
func TestMigrationRunsEveryTaskOnce(t *testing.T) {
	const eventType = "sh.keptn.event.test.triggered"
	// Only events of an exact type can be listed.
	system := start(t, Options{WithoutBridge: true, Settings: map[string]string{"KEPTN_RESYNC_INTERVAL": "1s", "KEPTN_SUBSCRIPTIONS": eventType}})
	k := console.Keptn{Call: system.Call}
	former := &formerService{call: system.Call}
	if err := former.register(t.Context(), eventType); err != nil {
		t.Fatal(err)
	}
	const config = "apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: busybox, cmd: [echo, hello]}\n"
	contexts := map[string]string{} // by project
	trigger := func() {
		t.Helper()
		project := fmt.Sprintf("shop-%d", len(contexts))
		contexts[project] = begin(t, k, project, config)
	}
	poll := func() (subscriptions int) {
		t.Helper()
		subscriptions, err := former.poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return subscriptions
	}
	for range 5 {
		trigger()
		poll()
	}
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "values.yaml"), []byte("subscription: {pubsubTopic: "+eventType+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	caller := commands.System{Keptn: k, Cluster: cli.Cluster{Kubernetes: system.Cluster.Client(nil)}}
	if output, code := caller.Call(t.Context(), "", "migrate", "--values", filepath.Join(directory, "values.yaml"), "--output-directory", directory); code != 0 {
		t.Fatalf("exit code %d, %s", code, output)
	}
	plan, err := os.ReadFile(filepath.Join(directory, "PLAN.md"))
	if err != nil {
		t.Fatal(err)
	}
	deletions := regexp.MustCompile(`--request DELETE .* "\$KEPTN_ENDPOINT(\S+)"`).FindAllStringSubmatch(string(plan), -1)
	if len(deletions) != 1 {
		t.Fatalf("the plan deletes %d subscriptions:\n%s", len(deletions), plan)
	}
	for _, deletion := range deletions {
		trigger()
		if _, err := system.Call(t.Context(), http.MethodDelete, deletion[1], nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		trigger()
		if poll() != 0 {
			t.Fatal("the old service is still subscribed")
		}
	}
	former.tasks.Wait() // its Jobs have ended; then it is uninstalled
	for project, keptnContext := range contexts {
		events, err := k.Events(t.Context(), keptnContext)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(events, func(event console.Event) bool { return event.Source == formerName }) {
			awaitFinished(t, k, project, keptnContext)
		}
	}
	trigger()
	if err := system.StartBridge(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		trigger()
	}
	ran := map[bool]int{} // the number of tasks, by whether the old service ran them
	for project, keptnContext := range contexts {
		awaitFinished(t, k, project, keptnContext)
		var events []console.Event
		// Keptn counts an event before it stores it.
		if err := console.Eventually(t.Context(), time.Minute, func(ctx context.Context) (err error) {
			events, err = k.Events(ctx, keptnContext)
			if err == nil && !slices.ContainsFunc(events, func(event console.Event) bool { return event.Type == "sh.keptn.event.test.finished" }) {
				err = fmt.Errorf("the result of %s is not stored", project)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		answers := map[string]int{}
		for _, event := range events {
			if strings.HasPrefix(event.Type, "sh.keptn.event.test.") {
				answers[event.Type]++
			}
			if event.Type == "sh.keptn.event.test.finished" {
				ran[event.Source == formerName]++
			}
		}
		want := map[string]int{eventType: 1, "sh.keptn.event.test.started": 1, "sh.keptn.event.test.finished": 1}
		if difference := cmp.Diff(want, answers); difference != "" {
			t.Errorf("%s (-want +got):\n%s", project, difference)
		}
	}
	if ran[true] < 1 || ran[false] < 9 {
		t.Errorf("the old service ran %d tasks, and the new one %d", ran[true], ran[false])
	}
}
