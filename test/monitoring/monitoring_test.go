package monitoring

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const repository = "../.."

const runbooks = "https://github.com/job-executor/job-executor/blob/main/config/monitoring/README.md#"

// An engineer on call finds each alert under its name.
func TestEachAlertHasItsRunbook(t *testing.T) {
	alerts, _, err := Alerts(repository)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(repository + "/config/monitoring/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, alert := range alerts {
		named = append(named, alert.Alert)
		if alert.Annotations["runbook_url"] != runbooks+strings.ToLower(alert.Alert) {
			t.Errorf("%s: runbook_url is %s", alert.Alert, alert.Annotations["runbook_url"])
		}
		if alert.Annotations["summary"] == "" || !slices.Contains([]string{"critical", "warning"}, alert.Labels["severity"]) {
			t.Errorf("%s lacks a summary or its severity", alert.Alert)
		}
		if _, err := alert.Measured(); err != nil {
			t.Error(err)
		}
	}
	var headings []string
	for _, heading := range regexp.MustCompile(`(?m)^## (JobExecutor\w+)$`).FindAllStringSubmatch(string(readme), -1) {
		headings = append(headings, heading[1])
	}
	if difference := cmp.Diff(named, headings); difference != "" {
		t.Errorf("runbooks in config/monitoring/README.md (-alerts +headings):\n%s", difference)
	}
}

func TestDashboardAnswersThreeQuestions(t *testing.T) {
	panels, err := Panels(repository)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, panel := range panels {
		if len(panel.Targets) == 0 {
			rows = append(rows, panel.Title)
		}
		for _, target := range panel.Targets {
			if target.Expression == "" || strings.Contains(target.Expression, "$") {
				t.Errorf("%s shows %q", panel.Title, target.Expression)
			}
		}
	}
	want := []string{"Is anything stuck?", "What is slow?", "What fails?", "Traffic of bridge and jobsource"}
	if difference := cmp.Diff(want, rows); difference != "" {
		t.Errorf("rows (-want +got):\n%s", difference)
	}
}
