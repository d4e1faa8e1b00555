package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/test/console"
)

// lighthouse-service asks for SLIs by an event that is no task of the shipyard.
func TestJobProvidesTheSLIsOfAnEvaluation(t *testing.T) {
	options := Options{Directory: t.TempDir(), Manifests: "../../config", Log: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})}
	system, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { system.Close(t.Context()) })
	k := console.Keptn{Call: system.Call}
	const slo = `spec_version: "1.0"
objectives:
  - {sli: error_rate, pass: [{criteria: ["<=1"]}], warning: [{criteria: ["<=5"]}]}
  - {sli: response_time_p95, pass: [{criteria: ["<=600"]}]}
total_score: {pass: "90%", warning: "75%"}
`
	const report = `      - {name: %s, image: busybox, cmd: sh, args: ["-c", "echo '{\"get-sli\":{\"indicatorValues\":[{\"metric\":\"%s\",\"value\":'$(%s)',\"success\":true}]}}' > /dev/termination-log"],
         env: [{name: %s, value: "$.data.labels.%s", valueFrom: event}]}
`
	config := "apiVersion: v2\nactions:\n  - name: Get SLIs\n    events: [{name: sh.keptn.event.get-sli.triggered}]\n    parallel: true\n    tasks:\n" +
		fmt.Sprintf(report, "prometheus", "error_rate", "ERRORS", "ERRORS", "errors") + fmt.Sprintf(report, "k6", "response_time_p95", "TIME", "TIME", "time")
	files := map[string][]byte{"job/config.yaml": []byte(config), "slo.yaml": []byte(slo)}
	if err := k.CreateProject(t.Context(), "shop", console.Shipyard("production", "evaluation"), "carts", []string{"production"}, files); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ errors, time, status, result string }{
		{"0.5", "310", "succeeded", "pass"}, {"3", "310", "succeeded", "warning"}, {"7", "310", "succeeded", "fail"}, {"x", "310", "errored", "fail"},
	} {
		t.Run(test.errors, func(t *testing.T) {
			keptnContext, err := k.Trigger(t.Context(), "shop", "production", "pipeline", "carts", map[string]any{"labels": map[string]any{"errors": test.errors, "time": test.time}})
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
