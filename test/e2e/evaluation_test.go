//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
	"github.com/job-executor/job-executor/test/traces"
)

// lighthouse-service asks for SLIs by an event that is no task of the shipyard. Over HTTP
// mongodb-datastore knows of it.
func TestJobsProvideTheSLIsOfAnEvaluation(t *testing.T) {
	installed := connect(t)
	overEachTransport(t, installed, system.CountingTime, func(t *testing.T, _ string) {
		t.Helper()
		project := createProject(t, installed, []string{"evaluation"}, evaluating(t))
		for errorRate, result := range map[string]string{"0.5": "pass", "3": "warning", "7": "fail", "unknown": "fail"} {
			keptnContext := triggerWith(t, installed, project, map[string]any{"labels": map[string]string{"errors": errorRate, "time": "310"}})
			var events []console.Event
			must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) (err error) {
				if events, err = installed.Events(ctx, keptnContext); err != nil {
					return err
				}
				if !slices.ContainsFunc(events, func(event console.Event) bool { return event.Type == "sh.keptn.event.evaluation.finished" }) {
					return errors.New("the evaluation has not finished")
				}
				return nil
			}))
			finished := summary{"get-sli.finished", "succeeded", "pass"}
			if errorRate == "unknown" {
				finished = summary{"get-sli.finished", "errored", "fail"} // its report is no JSON
			}
			compare(t, "events of "+errorRate, []summary{{Type: "get-sli.started"}, finished}, summaries(console.Ours(events)))
			for _, event := range events {
				if event.Type == "sh.keptn.event.evaluation.finished" {
					compare(t, "evaluation of "+errorRate, result, event.Data.Result)
				}
			}
		}
	})
}

// evaluating are the files of the example of an evaluation.
func evaluating(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, path := range map[string]string{"job/config.yaml": "evaluation.yaml", "slo.yaml": "evaluation/slo.yaml"} {
		content, err := os.ReadFile(filepath.Join("../examples", path))
		must(t, err)
		files[name] = string(content)
	}
	return files
}

// A get-sli event of lighthouse-service belongs to the sequence that is evaluated.
func TestTraceOfAnEvaluation(t *testing.T) {
	installed := connect(t)
	project := createProject(t, installed, []string{"evaluation"}, evaluating(t))
	keptnContext := triggerWith(t, installed, project, map[string]any{"labels": map[string]string{"errors": "0.5", "time": "310"}})
	traced(t, installed, keptnContext, treeOf(project, "get-sli", "success", "", traces.Job("error rate", "success", "")+
		traces.Job("response time", "success", "", "finalizing", "pending", "queued", "run")+traces.Sent("get-sli")+traces.Completed("get-sli")))
}
