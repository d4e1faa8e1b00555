package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run/store"
)

func TestWrongRulesOfTheInstallationAreNamed(t *testing.T) {
	namespaces := store.Settings{Namespaces: []string{"jobs", "shop"}}
	for name, test := range map[string]struct {
		rules Rules
		want  string
	}{
		"a label":                       {rules: Rules{JobLabels: map[string]string{"team": "shop"}}},
		"what is no label":              {Rules{JobLabels: map[string]string{"team": "a shop"}}, "environment variable JOB_LABELS: invalid label team=a shop: "},
		"an invalid pattern of images":  {Rules{AllowedImages: []string{"a", "[b"}}, "environment variable ALLOWED_IMAGES: pattern \"[b\": "},
		"an invalid pattern of Secrets": {Rules{AllowedSecrets: []string{"[b"}}, "environment variable ALLOWED_SECRETS: pattern \"[b\": "},
		"a project's namespace":         {rules: Rules{Settings: namespaces, ProjectNamespaces: map[string]string{"shop": "shop"}}},
		"a project's unknown namespace": {
			Rules{Settings: namespaces, ProjectNamespaces: map[string]string{"shop": "shop+other"}},
			"environment variable PROJECT_NAMESPACES: other of project shop is not one of JOB_NAMESPACES",
		},
		"all namespaces are projects'": {
			Rules{Settings: namespaces, ProjectNamespaces: map[string]string{"shop": "shop", "jobs": "jobs"}},
			"environment variable PROJECT_NAMESPACES: no namespace is left for projects that are not listed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			message := ""
			if err := test.rules.Validate(); err != nil {
				message = err.Error()
			}
			if (test.want == "") != (message == "") || !strings.HasPrefix(message, test.want) {
				t.Errorf("got %q, want %q", message, test.want)
			}
		})
	}
}

// No project can use another project's namespace.
func TestProjectsHaveTheirNamespaces(t *testing.T) {
	rules := Rules{
		Settings:          store.Settings{Namespaces: []string{"jobs", "shop", "shop-too", "bank", "more"}},
		ProjectNamespaces: map[string]string{"shop": "shop+shop-too", "bank": "bank"},
	}
	for project, want := range map[string][]string{"shop": {"shop", "shop-too"}, "bank": {"bank"}, "other": {"jobs", "more"}} {
		if difference := cmp.Diff(want, rules.NamespacesOf(project)); difference != "" {
			t.Errorf("%s (-want +got):\n%s", project, difference)
		}
	}
	rules.ProjectNamespaces = nil
	if difference := cmp.Diff(rules.Namespaces, rules.NamespacesOf("other")); difference != "" {
		t.Errorf("without a mapping (-want +got):\n%s", difference)
	}
}

func TestRulesAreReadFromTheEnvironment(t *testing.T) {
	rules, err := function.Configure[Rules](map[string]string{
		"JOB_NAMESPACES": "jobs,shop", "FETCHER_IMAGE": "f", "BRIDGE_URL": "u",
		"PROJECT_NAMESPACES": "shop=shop", "ALLOWED_SECRETS": "a,b*", "ALLOWED_LABEL": "a=b,c",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{rules.ProjectNamespaces, rules.AllowedSecrets, rules.AllowedLabel.String()}
	if difference := cmp.Diff([]any{map[string]string{"shop": "shop"}, []string{"a", "b*"}, "a=b,c"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if _, err := function.Configure[Rules](map[string]string{"ALLOWED_LABEL": "=="}); err == nil || !strings.Contains(err.Error(), "ALLOWED_LABEL") {
		t.Errorf("got %v", err)
	}
}

// A label can be removed, and a pattern of Secrets says nothing about accounts.
func TestAccountsAreListedByTheirOwnSettingsOnly(t *testing.T) {
	rules, err := function.Configure[Rules](map[string]string{
		"JOB_NAMESPACES": "jobs", "FETCHER_IMAGE": "f", "BRIDGE_URL": "u", "JOB_SERVICE_ACCOUNT": "job",
		"ALLOWED_SERVICE_ACCOUNTS": "deploy*", "ALLOWED_SECRETS": "*", "ALLOWED_LABEL": "!forbidden",
	})
	if err != nil {
		t.Fatal(err)
	}
	for account, want := range map[string]bool{"job": true, "default": true, "deployer": true, "other": false} {
		if got := rules.ListsAccount(account); got != want {
			t.Errorf("%s: %t", account, got)
		}
	}
}
