package simulation

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/embedded"
)

// How a Job's container ended.
const (
	succeeded = "succeeded"
	failed    = "failed"
	killed    = "killed"
)

// script is a Runtime whose containers do nothing but end, after a while and with some result.
type script struct{ world *world }

// Run waits.
func (s script) Run(ctx context.Context, container embedded.Container) (int, error) {
	random := s.world.chance.draw("container of %s", container.Job)
	code, end, pause := 0, succeeded, between(random, 100*time.Millisecond, 20*time.Second)
	s.world.mutex.Lock()
	fate := s.world.fates[container.Job]
	s.world.mutex.Unlock()
	switch draw := random.Float64(); {
	case fate == embedded.NodeLost:
		pause = time.Hour // nobody hears of the pod any more
	case s.world.planned != nil:
		pause = 5 * time.Second
	case draw < 0.05:
		code, end = 1, failed
	case draw < 0.07:
		pause = time.Hour // until its deadline
	}
	select {
	case <-ctx.Done():
		code, end = 137, killed
	case <-time.After(pause):
	}
	report := s.world.reportOf(random)
	if value := container.Environment[secretKey]; value != "" && s.world.planned == nil {
		what := printSecret(random, value, container)
		if report.text == "" && random.Float64() < 0.3 { //nolint:mnd // some
			report = secretReport(random, value)
		}
		s.world.happen(what)
	}
	container.Terminate(report.text)
	if s.world.planned == nil && random.Float64() < 0.05 { //nolint:mnd // some
		_, _ = container.Output.Write(bytes.Repeat([]byte("a long log\n"), 10000))
		s.world.happen("a log of 110 KB")
	}
	_, _ = fmt.Fprintf(container.Output, "%s %s\n", container.Job, end)
	s.world.note("Job %s has %s", container.Job, end)
	s.world.mutex.Lock()
	s.world.ends[container.Job] = end
	s.world.verdicts[container.Job] = report.verdict // earlier attempts do not count
	s.world.mutex.Unlock()
	s.world.happen("a report: " + report.name)
	return code, nil
}

// report is a task's termination message, and the result of the task if its container succeeds.
type report struct {
	name, text string
	verdict    keptn.Result
}

// reports has a report of each kind that a task may write.
var reports = []report{
	{"text", "3 of 5 are slow", keptn.ResultPass},
	{"a pass", `{"result":"pass","labels":{"n":5,"o":{"a":1},"null":null}}`, keptn.ResultPass},
	{"data", `{"get-sli":{"indicatorValues":[{"metric":"m","value":1.5,"success":true}]},"deep":{"a":[{"b":null}]}}`, keptn.ResultPass},
	{"data at the limit", `{"x":"` + strings.Repeat("x", 4000) + `"}`, keptn.ResultPass},
	{"a warning", `{"result":"warning","message":"slow"}`, keptn.ResultWarning},
	{"a failure", `{"result":"fail"}`, keptn.ResultFail},
	{"an error", `{"status":"errored"}`, keptn.ResultFail},
	{"a truncated report", `{"result":"fail","x":"` + strings.Repeat("x", 5000) + `"}`, keptn.ResultFail},
	{"a truncated report that begins again", strings.Repeat("x", 5000) + `{"result":"pass"}`, keptn.ResultFail},
	{"a malformed report", `{"result":"pass",}`, keptn.ResultFail},
	{"a wrong type", `{"result":false}`, keptn.ResultFail},
	{"an unknown result", `{"result":"PASS"}`, keptn.ResultFail},
	{"a huge number", `{"x":1e400}`, keptn.ResultFail},
	{"deep nesting", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), keptn.ResultFail},
	{"a NUL in a name", `{"a\u0000":1}`, keptn.ResultFail},
	{"labels that are a list", `{"labels":["a"]}`, keptn.ResultFail},
	{"a duplicate member", `{"result":"fail","result":"pass"}`, keptn.ResultFail},
}

// reportOf draws a report. Most tasks write nothing.
func (w *world) reportOf(random *rand.Rand) report {
	const share = 0.3
	if w.planned != nil || random.Float64() >= share {
		return report{"nothing", "", keptn.ResultPass}
	}
	return reports[random.IntN(len(reports))]
}
