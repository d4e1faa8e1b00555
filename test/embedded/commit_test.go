package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/job-executor/job-executor/test/console"
)

// Files are read at the event's commit. Without a commit, Keptn reads the newest one (J4).
func TestRunUsesTheCommitOfItsEvent(t *testing.T) {
	system := start(t, Options{})
	k := console.Keptn{Call: system.Call}
	const resources = "/resource-service/v1/project/shop/stage/production/service/carts/resource"
	const config = `apiVersion: v2
actions:
  - {name: Say, event: sh.keptn.event.test.triggered, image: busybox, files: [said.txt], cmd: [sh, -c, 'echo %s; cat /keptn/said.txt']}
`
	files := func(word string) map[string][]byte {
		return map[string][]byte{"job/config.yaml": fmt.Appendf(nil, config, "command "+word), "said.txt": []byte("file " + word + "\n")}
	}
	if err := k.CreateProject(t.Context(), "shop", console.Shipyard("production", "test"), "carts", []string{"production"}, files("first")); err != nil {
		t.Fatal(err)
	}
	call := func(method, path string, body, answer any) {
		t.Helper()
		content, err := json.Marshal(body)
		if err == nil {
			content, err = system.Call(t.Context(), method, path, content)
		}
		if err == nil {
			err = json.Unmarshal(content, answer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var stored struct{ Metadata struct{ Version string } }
	call(http.MethodGet, resources+"/said.txt", nil, &stored)
	var changed []map[string]any
	for name, content := range files("second") {
		changed = append(changed, map[string]any{"resourceURI": name, "resourceContent": content})
	}
	call(http.MethodPut, resources, map[string]any{"resources": changed}, &struct{}{})
	for commit, word := range map[string]string{stored.Metadata.Version: "first", "": "second"} {
		t.Run(word, func(t *testing.T) {
			event := map[string]any{
				"type": "sh.keptn.event.production.pipeline.triggered", "source": "user", "specversion": "1.0", "contenttype": "application/json",
				"data": map[string]string{"project": "shop", "stage": "production", "service": "carts"},
			}
			if commit != "" {
				event["gitcommitid"] = commit
			}
			var triggered struct{ KeptnContext string }
			call(http.MethodPost, "/v1/event", event, &triggered)
			if err := console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
				events, err := k.Events(ctx, triggered.KeptnContext)
				if err != nil {
					return err
				}
				for _, event := range console.Ours(events) {
					if said := event.Data.Message; strings.HasSuffix(event.Type, ".finished") {
						if !strings.Contains(said, "command "+word+"\nfile "+word+"\n") {
							t.Errorf("got %q", said)
						}
						return nil
					}
				}
				return fmt.Errorf("the task has not finished: %v", events)
			}); err != nil {
				t.Error(err)
			}
		})
	}
}
