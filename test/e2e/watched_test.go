//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/monitoring"
	"github.com/job-executor/job-executor/test/system"
)

const repository = "../.."

// watch is the Prometheus that scrapes while the tests run, and its start.
type watch struct {
	*system.Prometheus
	since time.Time
}

// watched is set by TestMain if a test needs it.
var watched watch //nolint:gochecknoglobals // TestMain passes nothing else

// needsPrometheus reports whether a pattern of tests selects one that reads metrics.
func needsPrometheus(pattern string) bool {
	selected, err := regexp.Compile(pattern)
	return err == nil && slices.ContainsFunc([]string{"TestEveryQueryHasData", "TestExemplarsNameTracesThatAreInJaeger", "TestSoak"}, selected.MatchString)
}

// startPrometheus starts to scrape the installation. Stop ends it.
func startPrometheus(ctx context.Context, installed *system.Installation) (stop func() error, err error) {
	directory, err := os.MkdirTemp("", "job-executor-prometheus-")
	if err != nil {
		return nil, fmt.Errorf("create a directory for Prometheus: %w", err)
	}
	prometheus, err := installed.StartPrometheus(ctx, directory)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	watched = watch{prometheus, time.Now()}
	return func() error { return errors.Join(prometheus.Stop(), os.RemoveAll(directory)) }, nil
}

// promtool runs Prometheus' own checks.
func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "promtool", arguments...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}

// fired describes an alert: series for which it does not fire, series for which it does, the task, and the message.
// Lines of values may name their own series.
type fired struct{ series, quiet, loud, task, summary string }

func TestAlertsFire(t *testing.T) {
	alerts, rules, err := monitoring.Alerts(repository)
	must(t, err)
	directory := t.TempDir()
	path := filepath.Join(directory, "rules.yaml")
	must(t, os.WriteFile(path, rules, 0o600))
	promtool(t, "check", "rules", path)

	const minutes = 30
	tests := map[string]fired{
		"JobExecutorBridgeMissing": {
			series: "job_executor_keptn_listing_age_seconds", quiet: "0x30", loud: "0x5 stale",
			summary: "No bridge is elected, or none is scraped: no task is taken from Keptn.",
		},
		"JobExecutorJobsourceMissing": {
			series: "job_executor_job_unreported_age_seconds", quiet: "0x30", loud: "0x5 stale",
			summary: "jobsource does not run, or is not scraped: no task is finished.",
		},
		"JobExecutorKeptnUnreachable": {
			series: "job_executor_keptn_listing_age_seconds", quiet: "300x30", loud: "0x5 600x30",
			summary: "The bridge could not ask Keptn what is open for 10m 0s.",
		},
		"JobExecutorEventsNotStarted": {
			series: "job_executor_event_undelivered_age_seconds", quiet: "300x30", loud: "0x5 600x30",
			summary: "A task waits for 10m 0s and nobody has started it.",
		},
		"JobExecutorResultsNotReported": {
			series: "job_executor_job_unreported_age_seconds", quiet: "600x30", loud: "0x5 1200x30",
			summary: "A run ended 20m 0s ago, and Keptn does not have its result.",
		},
		"JobExecutorNamespacesUnwatched": {
			series: "jobsource_namespaces_unwatched", quiet: "0x26 1x10", loud: "0x5 2x30", summary: "2 namespaces of Jobs can not be watched.",
		},
		"JobExecutorDeadLetters": {
			series: "job_executor_events_dead_lettered_total", quiet: "1x40", loud: "0x20 1x10", summary: "The Broker could not deliver events.",
		},
		"JobExecutorEventsUnproven": {
			series: "job_executor_events_unproven_total", quiet: "1x40", loud: "0x20 1x10", summary: "Somebody sends events in the name of a function.",
		},
		"JobExecutorTasksErrored": {
			series: `cicd_pipeline_run_errors_total{error_type="error", cicd_pipeline_task_name="test"}`, quiet: "0x15 2x15", loud: "0x15 15x15",
			task: "test", summary: "15 tasks test could not be run in 15 minutes.",
		},
		"JobExecutorSlowToStart":  slow("start", "One task of twenty waits longer than 4m 44s to be started."),
		"JobExecutorSlowToFinish": slow("finish", "For one task of twenty Keptn has the result later than 4m 44s after its end."),
	}
	var cases []map[string]any
	for _, alert := range alerts {
		test, ok := tests[alert.Alert]
		if !ok {
			t.Errorf("nothing tests %s", alert.Alert)
			continue
		}
		for values, fires := range map[string]bool{test.quiet: false, test.loud: true} {
			var series []map[string]any
			for _, line := range strings.Split(values, "\n") {
				name, samples, isWhole := strings.Cut(line, " <- ")
				if !isWhole {
					name, samples = test.series, line
				}
				series = append(series, map[string]any{"series": name, "values": samples})
			}
			expected := []map[string]any{}
			if fires {
				labels := map[string]string{"severity": alert.Labels["severity"]}
				if test.task != "" {
					labels["cicd_pipeline_task_name"] = test.task
				}
				expected = append(expected, map[string]any{
					"exp_labels": labels, "exp_annotations": map[string]string{"summary": test.summary, "runbook_url": alert.Annotations["runbook_url"]},
				})
			}
			cases = append(cases, map[string]any{
				"interval": "1m", "input_series": series,
				"alert_rule_test": []map[string]any{{"eval_time": fmt.Sprintf("%dm", minutes), "alertname": alert.Alert, "exp_alerts": expected}},
			})
		}
	}
	content, err := json.Marshal(map[string]any{"rule_files": []string{path}, "evaluation_interval": "1m", "tests": cases})
	must(t, err)
	file := filepath.Join(directory, "tests.yaml")
	must(t, os.WriteFile(file, content, 0o600))
	promtool(t, "test", "rules", file)
}

// slow is a histogram with three of four values above a minute.
func slow(which, summary string) fired {
	bucket := func(boundary, values string) string {
		return fmt.Sprintf(`job_executor_task_%s_duration_seconds_bucket{le=%q} <- %s`, which, boundary, values)
	}
	histogram := func(minute, fiveMinutes string) string {
		return strings.Join([]string{bucket("60", minute), bucket("300", fiveMinutes), bucket("+Inf", fiveMinutes)}, "\n")
	}
	return fired{
		quiet: histogram("0+100x40", "0+100x40"), loud: histogram("0+25x40", "0+100x40"), summary: summary,
	}
}

// The dashboard and the alerts use existing metrics: after the tests so far, each has values.
func TestEveryQueryHasData(t *testing.T) {
	alerts, _, err := monitoring.Alerts(repository)
	must(t, err)
	panels, err := monitoring.Panels(repository)
	must(t, err)
	queries := map[string]string{}
	for _, alert := range alerts {
		measured, err := alert.Measured()
		must(t, err)
		queries[measured] = alert.Alert
	}
	for _, panel := range panels {
		for _, target := range panel.Targets {
			queries[target.Expression] = panel.Title
		}
	}
	for query, of := range queries {
		least := 0.0
		if strings.Contains(query, "vector(0)") {
			least = 1 // the value if there is no data
		}
		// The last events may not have been scraped yet.
		err := console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
			values, err := watched.Range(ctx, query, watched.since, time.Now())
			if err == nil && !slices.ContainsFunc(values, func(value float64) bool { return value >= least }) {
				err = fmt.Errorf("of %d values none is at least %v", len(values), least)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %s: %v", of, query, err)
		}
	}
}

// One click leads from a slow task to the reason.
func TestExemplarsNameTracesThatAreInJaeger(t *testing.T) {
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello\n"})
	end(t, installed, project, keptnContext)
	must(t, console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error {
		traces, err := watched.ExemplarTraces(ctx, "cicd_pipeline_run_duration_seconds_bucket", watched.since, time.Now())
		if err != nil {
			return err
		}
		for _, trace := range traces {
			if spans, err := installed.Trace(ctx, trace); err == nil && len(spans) > 0 {
				return nil
			}
		}
		return fmt.Errorf("of %d exemplars none is a trace in Jaeger", len(traces))
	}))
}

// Only deliveries are traced: no Leases, pings, polls or health checks.
func TestSearchInJaegerListsTasksOnly(t *testing.T) {
	installed := connect(t)
	for _, function := range system.Functions() {
		traces, err := installed.Search(t.Context(), function)
		must(t, err)
		if len(traces) == 0 {
			t.Errorf("nothing is found of %s", function)
		}
		roots := map[string]int{}
		for _, spans := range traces {
			for _, span := range spans {
				if span.ParentID == "" && jaeger.IsOurs(span) {
					roots[span.Name]++
				}
			}
		}
		for name := range roots {
			if !strings.HasPrefix(name, "RUN ") {
				t.Errorf("the search for %s lists %s", function, name)
			}
		}
		t.Logf("%s: %d traces, whose roots are %v", function, len(traces), roots)
	}
}
