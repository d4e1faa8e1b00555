package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// Alert is an alert's rule.
type Alert struct {
	Alert       string            `json:"alert"`
	Expression  string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// comparison is the end of an alert's expression.
var comparison = regexp.MustCompile(` [<>] [0-9.]+$`)

// Measured returns the expression that an alert compares with its limit. It returns an error if there is no
// comparison.
func (a Alert) Measured() (string, error) {
	measured := comparison.ReplaceAllString(a.Expression, "")
	if measured == a.Expression {
		return "", fmt.Errorf("alert %s compares nothing: %s", a.Alert, a.Expression)
	}
	return measured, nil
}

// Alerts returns the alerts below a repository's root, and a rules file with them.
func Alerts(repository string) ([]Alert, []byte, error) {
	var rules struct {
		Spec struct {
			Groups []struct {
				Name  string  `json:"name"`
				Rules []Alert `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	if err := read(repository, "rules.yaml", &rules); err != nil {
		return nil, nil, err
	}
	var alerts []Alert
	for _, group := range rules.Spec.Groups {
		alerts = append(alerts, group.Rules...)
	}
	file, err := yaml.Marshal(rules.Spec)
	return alerts, file, err
}

// Panel is a panel of a dashboard.
type Panel struct {
	Title   string `json:"title"`
	Targets []struct {
		Expression string `json:"expr"`
	} `json:"targets"`
}

// Panels returns the panels of the dashboard below a repository's root.
func Panels(repository string) ([]Panel, error) {
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err := read(repository, "dashboard.yaml", &configMap); err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []Panel `json:"panels"`
	}
	if err := json.Unmarshal([]byte(configMap.Data["job-executor.json"]), &dashboard); err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	for _, panel := range dashboard.Panels {
		for index := range panel.Targets {
			// Grafana chooses it by the panel.
			panel.Targets[index].Expression = strings.NewReplacer("$__rate_interval", "1m", "$pipeline", ".*").Replace(panel.Targets[index].Expression)
		}
	}
	return dashboard.Panels, nil
}

func read(repository, name string, into any) error {
	content, err := os.ReadFile(filepath.Join(repository, "config", "monitoring", name)) //nolint:gosec // the caller's repository
	if err == nil {
		err = yaml.Unmarshal(content, into)
	}
	if err != nil {
		return fmt.Errorf("read config/monitoring/%s: %w", name, err)
	}
	return nil
}
