package plan

import (
	"strings"
	"testing"
)

func TestWrongLabelsOfTheInstallationAreNamed(t *testing.T) {
	rules := Rules{JobLabels: map[string]string{"team": "a shop"}}
	if err := rules.Validate(); err == nil || !strings.HasPrefix(err.Error(), "environment variable JOB_LABELS: team=a shop is no label: ") {
		t.Errorf("got %v", err)
	}
	if err := (Rules{JobLabels: map[string]string{"team": "shop"}}).Validate(); err != nil {
		t.Error(err)
	}
}
