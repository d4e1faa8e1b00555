package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
)

func TestWrongRulesOfTheInstallationAreNamed(t *testing.T) {
	namespaces := run.Settings{Namespaces: []string{"jobs", "shop"}}
	for name, test := range map[string]struct {
		rules Rules
		want  string
	}{
		"a label":                       {rules: Rules{JobLabels: map[string]string{"team": "shop"}}},
		"what is no label":              {Rules{JobLabels: map[string]string{"team": "a shop"}}, "environment variable JOB_LABELS: team=a shop is no label: "},
		"what is no pattern of images":  {Rules{AllowedImages: []string{"a", "[b"}}, "environment variable ALLOWED_IMAGES: pattern \"[b\": "},
		"what is no pattern of Secrets": {Rules{AllowedSecrets: []string{"[b"}}, "environment variable ALLOWED_SECRETS: pattern \"[b\": "},
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

// Teams are apart: what is one project's namespace no other may use.
func TestProjectsHaveTheirNamespaces(t *testing.T) {
	rules := Rules{
		Settings:          run.Settings{Namespaces: []string{"jobs", "shop", "shop-too", "bank", "more"}},
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
		"JOB_NAMESPACES": "jobs,shop", "FETCHER_IMAGE": "f", "BRIDGE_URL": "u", "PROJECT_NAMESPACES": "shop=shop", "ALLOWED_SECRETS": "a,b*", "ALLOWED_LABEL": "a=b,c",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{rules.ProjectNamespaces, rules.AllowedSecrets, rules.AllowedLabel.String()}
	if difference := cmp.Diff([]any{map[string]string{"shop": "shop"}, []string{"a", "b*"}, "a=b,c"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	for selector, want := range map[string]bool{"": false, "a=b": true, "a!=b": false} {
		var parsed Selector
		if err := parsed.UnmarshalText([]byte(selector)); err != nil || parsed.selects(map[string]string{"a": "b"}) != want {
			t.Errorf("%q: %v, %v", selector, parsed, err)
		}
	}
	if _, err := function.Configure[Rules](map[string]string{"ALLOWED_LABEL": "=="}); err == nil || !strings.Contains(err.Error(), "ALLOWED_LABEL") {
		t.Errorf("got %v", err)
	}
}

func TestImagesAreComparedInFull(t *testing.T) {
	const digest = "sha256:9f9a3ee4b5e1f4f0b7b4d2c5c2b8a3d5e6f708192a3b4c5d6e7f8091a2b3c4d5"
	for name, test := range map[string]struct {
		patterns, allowed, forbidden []string
	}{
		"all": {patterns: nil, allowed: []string{"busybox", "evil.example/x"}},
		"an official image, of any tag": {
			patterns: []string{"busybox"}, allowed: []string{"busybox", "busybox:1.36", "library/busybox", "docker.io/library/busybox:latest", "index.docker.io/library/busybox", "busybox@" + digest},
			forbidden: []string{"busybox.evil.example/x", "evil.example/busybox", "somebody/busybox", "busyboxes"},
		},
		"one with a tag": {
			patterns: []string{"busybox:1.36"}, allowed: []string{"busybox:1.36", "docker.io/library/busybox:1.36"},
			// To Kubernetes the digest is what counts.
			forbidden: []string{"busybox", "busybox:1.37", "busybox:1.36@" + digest},
		},
		"the newest":            {patterns: []string{"busybox:latest"}, allowed: []string{"busybox"}, forbidden: []string{"busybox:1.36"}},
		"one of a digest":       {patterns: []string{"busybox@" + digest}, allowed: []string{"busybox@" + digest, "busybox:1.36@" + digest}, forbidden: []string{"busybox", "somebody/busybox@" + digest}},
		"those of a name":       {patterns: []string{"busybox*"}, allowed: []string{"busybox", "busybox-extra:1"}, forbidden: []string{"busybox.evil.example/x", "busybox/x"}},
		"those of somebody":     {patterns: []string{" keptncontrib/* "}, allowed: []string{"keptncontrib/x", "docker.io/keptncontrib/x:1"}, forbidden: []string{"keptncontrib.evil.example/x", "evil.example/keptncontrib/x"}},
		"those of a registry":   {patterns: []string{"registry.example:5000/*"}, allowed: []string{"registry.example:5000/a/b:1"}, forbidden: []string{"registry.example/a", "a"}},
		"those of a local one":  {patterns: []string{"localhost/*"}, allowed: []string{"localhost/a"}, forbidden: []string{"a"}},
		"those of any registry": {patterns: []string{"*/busybox"}, allowed: []string{"busybox", "evil.example/busybox:1"}, forbidden: []string{"busyboxes"}},
		"several":               {patterns: []string{"nginx", "busybox"}, allowed: []string{"busybox", "nginx"}, forbidden: []string{"alpine"}},
		"no name of an image":   {patterns: []string{"*"}, allowed: []string{"a"}, forbidden: []string{"A B"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := Plan{Rules: Rules{AllowedImages: test.patterns}}
			for _, image := range test.allowed {
				if err := plan.checkImage(image); err != nil {
					t.Error(err)
				}
			}
			for _, image := range test.forbidden {
				if err := plan.checkImage(image); !IsMistake(err) {
					t.Errorf("%s: got %v", image, err)
				}
			}
		})
	}
}
