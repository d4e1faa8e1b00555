package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/test/console"
)

// lighthouse-service asks for SLIs by an event that is no task of the shipyard.
func TestJobProvidesTheSLIsOfAnEvaluation(t *testing.T) {
	system := start(t, Options{})
	k := console.Keptn{Call: system.Call}
	files := map[string][]byte{}
	for name, path := range map[string]string{"job/config.yaml": "evaluation.yaml", "slo.yaml": "evaluation/slo.yaml"} {
		content, err := os.ReadFile(filepath.Join("../examples", path))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	if err := k.CreateProject(t.Context(), "shop", console.Shipyard("production", "evaluation"), "carts", []string{"production"}, files); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ errors, time, status, result string }{
		{"0.5", "310", "succeeded", "pass"}, {"3", "310", "succeeded", "warning"}, {"7", "310", "succeeded", "fail"}, {"x", "310", "errored", "fail"},
	} {
		t.Run(test.errors, func(t *testing.T) {
			labels := map[string]any{"labels": map[string]any{"errors": test.errors, "time": test.time}}
			keptnContext, err := k.Trigger(t.Context(), "shop", "production", "pipeline", "carts", labels)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]int
			var finished struct{ Status, Result string }
			if err := console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
				got = map[string]int{}
				events, err := k.Events(ctx, keptnContext)
				if err != nil {
					return err
				}
				for _, event := range events {
					got[event.Type]++
					if event.Type == "sh.keptn.event.evaluation.finished" {
						finished.Status, finished.Result = event.Data.Status, event.Data.Result
					}
				}
				if got["sh.keptn.event.production.pipeline.finished"] == 0 {
					return fmt.Errorf("the sequence has not finished: %v", got)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			want := map[string]int{}
			for _, what := range []string{"production.pipeline.triggered", "production.pipeline.finished"} {
				want["sh.keptn.event."+what] = 1
			}
			for _, task := range []string{"evaluation", "get-sli"} {
				for _, phase := range []string{"triggered", "started", "finished"} {
					want["sh.keptn.event."+task+"."+phase] = 1
				}
			}
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("events (-want +got):\n%s", difference)
			}
			if finished.Status != test.status || finished.Result != test.result {
				t.Errorf("the evaluation is %+v", finished)
			}
		})
	}
}
