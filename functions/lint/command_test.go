package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const (
	good       = "apiVersion: v2\nactions:\n- {name: A, event: t.triggered, image: busybox, cmd: [echo, hello]}\n"
	wrong      = "apiVersion: v2\nactions:\n- {name: A, event: t.triggered, imag: busybox}\n- {name: B, image: 'a b', files: ['*']}\n"
	givenEvent = `{"specversion": "1.0", "id": "1", "type": "sh.keptn.event.test.triggered", "source": "shipyard-controller", "shkeptncontext": "c",
		"data": {"project": "p", "stage": "s", "service": "v"}}`
)

const (
	first   = "actions[0].imag is not a known key; did you mean image?"
	second  = `actions[1].image "a b" is not the name of an image: invalid reference format`
	warning = `actions[1].files[0] "*" is used literally: wildcards are not supported; name the folder to copy all its files`
)

// inFolder creates a folder with files, and changes to it.
func inFolder(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{
		"good/job/config.yaml": good, "wrong/job/config.yaml": wrong, "wrong/other.yaml": "x", "good/.git/job/config.yaml": "x", "event.json": givenEvent,
		"secret.yaml": "apiVersion: v2\nactions:\n- {name: A, event: t.triggered, image: busybox, env: [{name: one, valueFrom: secret}], serviceAccount: " +
			"deployer}\n",
		"settings.yaml": "kind: ConfigMap\ndata: {ALLOWED_IMAGES: nginx*}\n---\nkind: Secret\ndata: {ALLOWED_IMAGES: '*'}\n",
		"large.yaml":    strings.Repeat("#", 300<<10), "empty/file": "",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
}

func call(t *testing.T, input string, arguments ...string) (output string, err error) {
	t.Helper()
	command := &cobra.Command{SilenceUsage: true, SilenceErrors: true}
	command.AddCommand(Command(), PlanCommand())
	name := "lint"
	if slices.Contains(arguments, "--event") {
		name = "plan"
	}
	arguments = append([]string{name}, arguments...)
	var written bytes.Buffer
	command.SetArgs(arguments)
	command.SetIn(strings.NewReader(input))
	command.SetOut(&written)
	command.SetErr(io.Discard)
	err = command.ExecuteContext(t.Context())
	return written.String(), err
}

func TestCommand(t *testing.T) {
	inFolder(t)
	tests := []struct {
		name, input string
		arguments   []string
		want, err   string
	}{
		{name: "a file without mistakes", arguments: []string{"good/job/config.yaml"}},
		{
			name: "every configuration in the working directory",
			want: "wrong/job/config.yaml:3:33: " + first + "\nwrong/job/config.yaml:4:20: " + second + "\nwrong/job/config.yaml:4:35: warning: " + warning + "\n",
			err:  "there are mistakes",
		},
		{name: "a folder", arguments: []string{"good"}},
		{name: "the folder job itself", arguments: []string{"good/job"}},
		{name: "a folder without any", arguments: []string{"empty"}, err: "look into empty: there is no job/config.yaml"},
		{
			name:      "the standard input",
			input:     "apiVersion: v3",
			arguments: []string{"-"},
			want:      "-:1:13: apiVersion v3 is not supported, use v2\n",
			err:       "there are mistakes",
		},
		{
			name:      "a warning does not fail",
			input:     "apiVersion: v2\nactions: {}",
			arguments: []string{"-"},
			want:      "-:2:10: warning: actions must be a list, not a map\n",
		},
		{
			name: "a large file", arguments: []string{"large.yaml"},
			want: "large.yaml:1:1: it has 307200 bytes; the limit is 262144\n", err: "there are mistakes",
		},
		{name: "a missing file", arguments: []string{"nowhere"}, err: "read the file: open nowhere: no such file or directory"},
		{name: "an unknown format", arguments: []string{"--format", "xml"}, err: `--format "xml" must be one of github, json, sarif, text`},
		{
			name: "for GitHub", arguments: []string{"--format", "github", "wrong"},
			want: "::error file=wrong/job/config.yaml,line=3,col=33::" + first + "\n::error file=wrong/job/config.yaml,line=4,col=20::" + second +
				"\n::warning file=wrong/job/config.yaml,line=4,col=35::" + warning + "\n",
			err: "there are mistakes",
		},
		{
			name: "as JSON", arguments: []string{"--format", "json", "-"}, input: "apiVersion: v3",
			want: "[\n  {\n    \"file\": \"-\",\n    \"line\": 1,\n    \"column\": 13,\n    \"severity\": \"error\",\n" +
				"    \"message\": \"apiVersion v3 is not supported, use v2\"\n  }\n]\n",
			err: "there are mistakes",
		},
		{name: "as JSON, nothing", arguments: []string{"--format", "json", "good"}, want: "[]\n"},
		{
			name:      "no Jobs for another event",
			input:     strings.Replace(good, "event: t.triggered", "event: release.triggered", 1),
			arguments: []string{"--event", "event.json", "-"},
			want: "# sh.keptn.event.test.triggered makes no Jobs: Nothing is run for task test: no action of job/config.yaml matches " +
				"sh.keptn.event.test.triggered: \"A\" is for release.triggered\n",
		},
		{
			name: "objects missing in the cluster", arguments: []string{"--event", "event.json", "--service-account", "deployer", "secret.yaml"},
			want: "# sh.keptn.event.test.triggered makes no Jobs: action \"A\", task \"A\" (line 3): could not add env with name one: " +
				"Secret one does not exist in namespace \"job-executor-jobs\", or tasks may not use it; create it, and allow it with " +
				"kubectl label secret one --namespace job-executor-jobs job-executor.github.io/allowed=true\n" +
				"# Name the Secrets that exist with --secret NAME=KEY,OTHER.\n",
			err: "there are mistakes",
		},
		{
			name:      "rules of the installation",
			arguments: []string{"--event", "event.json", "--settings", "settings.yaml", "good"},
			want: "# sh.keptn.event.test.triggered makes no Jobs: action \"A\", task \"A\" (line 3): Forbidden: Image busybox does not match configured " +
				"image allowlist (ALLOWED_IMAGES: nginx*)\n",
			err: "there are mistakes",
		},
		{
			name:      "rules of the namespace",
			input:     strings.Replace(good, "image: busybox", "image: busybox, securityContext: {privileged: true}", 1),
			arguments: []string{"--event", "event.json", "-"},
			want: "# sh.keptn.event.test.triggered makes no Jobs: action \"A\", task \"A\" (line 3): Kubernetes would reject its pod: it violates PodSecurity " +
				"\"baseline:latest\": " +
				"privileged (container \"task\" must not set securityContext.privileged=true)\n",
			err: "there are mistakes",
		},
		{
			name: "an unknown level", arguments: []string{"--event", "event.json", "--pod-security", "strict", "good"},
			err: "--pod-security: level \"strict\": ",
		},
		{name: "an invalid event", arguments: []string{"--event", "good/job/config.yaml", "good"}, err: "read the event in good/job/config.yaml: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := call(t, test.input, test.arguments...)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if !strings.HasPrefix(message, test.err) || (message == "") != (test.err == "") || (message == "there are mistakes") != errors.Is(err, ErrFound) {
				t.Errorf("got error %q, want %q", message, test.err)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestJobsOfAnEvent(t *testing.T) {
	inFolder(t)
	got, err := call(t, "", "--event", "event.json", "--secret", "one=B,A", "--service-account", "deployer", "secret.yaml", "good")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"---\n# sh.keptn.event.test.triggered runs task \"A\" of action \"A\"\napiVersion: batch/v1\nkind: Job\n",
		"serviceAccountName: deployer\n", "key: A\n              name: one\n", "- command:\n        - echo\n        - hello\n",
	} {
		if !strings.Contains(got, text) {
			t.Errorf("%q is missing in:\n%s", text, got)
		}
	}
}

func TestLevelOfPodSecurityDecidesWhatIsPrivileged(t *testing.T) {
	inFolder(t)
	input := strings.Replace(good, "image: busybox", "image: busybox, securityContext: {privileged: true}", 1)
	got, err := call(t, input, "--event", "event.json", "--pod-security", "privileged", "-")
	if err != nil || !strings.Contains(got, "privileged: true\n") || !strings.Contains(got, "allowPrivilegeEscalation: true\n") {
		t.Errorf("got %v, %s", err, got)
	}
}

// Actions also run for an event that triggers no task.
func TestJobsOfAnEventThatTriggersNothing(t *testing.T) {
	inFolder(t)
	content, err := os.ReadFile("event.json")
	if err == nil {
		err = os.WriteFile("finished.json", bytes.Replace(content, []byte("test.triggered"), []byte("test.finished"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("finished.yaml", []byte(strings.Replace(good, "t.triggered", "test.finished", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := call(t, "", "--event", "finished.json", "finished.yaml")
	if err != nil || !strings.HasPrefix(got, "---\n# sh.keptn.event.test.finished runs task \"A\" of action \"A\"\n") {
		t.Errorf("got %v, %s", err, got)
	}
}

func TestSARIF(t *testing.T) {
	inFolder(t)
	output, err := call(t, "", "--format", "sarif", "wrong")
	if !errors.Is(err, ErrFound) {
		t.Fatal(err)
	}
	var got struct {
		Version string
		Runs    []struct {
			Results []struct {
				RuleID, Level string
				Message       struct{ Text string }
				Locations     []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(output), &got); err != nil {
		t.Fatal(err)
	}
	type result struct {
		Rule, Level, Text, File string
		Line, Column            int
	}
	var results []result
	for _, found := range got.Runs[0].Results {
		at := found.Locations[0].PhysicalLocation
		results = append(results, result{found.RuleID, found.Level, found.Message.Text, at.ArtifactLocation.URI, at.Region.StartLine, at.Region.StartColumn})
	}
	want := []result{
		{"job-config", "error", first, "wrong/job/config.yaml", 3, 33},
		{"job-config", "error", second, "wrong/job/config.yaml", 4, 20},
		{"job-config", "warning", warning, "wrong/job/config.yaml", 4, 35},
	}
	if difference := cmp.Diff(want, results); difference != "" || got.Version != "2.1.0" {
		t.Errorf("version %s (-want +got):\n%s", got.Version, difference)
	}
}

// GitHub rejects a whole upload for one invalid URI reference.
func TestFilesAreURIs(t *testing.T) {
	directory := t.TempDir()
	t.Chdir(directory)
	for name, want := range map[string]string{
		"my team/job/config.yaml": "my%20team/job/config.yaml", "größe/job/config.yaml": "gr%C3%B6%C3%9Fe/job/config.yaml", "a:b#c.yaml": "./a:b%23c.yaml",
		"-": "stdin", filepath.Join(directory, "a b.yaml"): "a%20b.yaml", "/etc/a b.yaml": "file:///etc/a%20b.yaml",
	} {
		got := uriOf(name)
		parsed, err := url.Parse(got)
		if got != want || err != nil || parsed.IsAbs() != strings.HasPrefix(want, "file:") {
			t.Errorf("%s is %s, want %s (%v)", name, got, want, err)
		}
	}
}

// A handwritten event may omit the attributes that all events have.
func TestShortEvent(t *testing.T) {
	inFolder(t)
	const short = `{"type": "sh.keptn.event.t.triggered", "data": {"project": "p", "stage": "s", "service": "v"}}`
	if err := os.WriteFile("short.json", []byte(short), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, "", "--event", "short.json", "good"); err != nil || !strings.HasPrefix(got, "---\n# sh.keptn.event.t.triggered runs task \"A\"") {
		t.Errorf("got %v, %s", err, got)
	}
}

// A mistake in an action that does not match hides no Jobs, and too many mistakes no others.
func TestMistakesHideNothing(t *testing.T) {
	inFolder(t)
	both := strings.Replace(good, "t.triggered", "test.triggered", 1) + "- {name: B, event: other.triggered, imag: x}\n"
	if err := os.WriteFile("both.yaml", []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, "", "--event", "event.json", "both.yaml"); !errors.Is(err, ErrFound) || !strings.Contains(got, "runs task \"A\"") {
		t.Errorf("got %v, %s", err, got)
	}
	for actions, want := range map[int]int{maxFindings: maxFindings, maxFindings + 1: maxFindings + 1, 2 * maxFindings: maxFindings + 1} {
		got, err := call(t, "apiVersion: v2\nactions:\n"+strings.Repeat("- {name: A, event: t.triggered, imag: x}\n", actions), "-")
		lines, isCut := strings.Count(got, "\n"), strings.HasSuffix(got, "more mistakes are not shown\n")
		if !errors.Is(err, ErrFound) || lines != want || isCut != (want > maxFindings) {
			t.Errorf("%d actions: got %v, %d lines", actions, err, lines)
		}
	}
}
