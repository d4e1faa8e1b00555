package commands

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/job-executor/job-executor/functions/cli"
	"github.com/job-executor/job-executor/test/console"
)

// golden has the expected outputs. UPDATE_GOLDEN=1 writes them anew.
//
//go:embed testdata
var golden embed.FS

// System runs sequences whose runs the commands show.
type System struct {
	console.Keptn

	Cluster cli.Cluster
	// Limit bounds the time until a sequence has ended.
	Limit time.Duration
}

// token is the caller's token. The system's own token replaces it.
const token = "the caller's token"

// Call runs a command and returns its output and exit code. The input is what the user types.
func (s System) Call(ctx context.Context, input string, arguments ...string) (output string, code int) {
	var written bytes.Buffer
	variables := map[string]string{"KEPTN_ENDPOINT": "https://keptn.example.com", "KEPTN_API_TOKEN": token}
	command := cli.New(cli.Surroundings{ //nolint:contextcheck // a command gets its context when it is executed
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(input), Out: &written, ErrOut: &written},
		Name:      "job-executor", Version: "v1.2.3", Now: func() time.Time { return time.Now().UTC() },
		Getenv:    func(name string) string { return variables[name] },
		Connect:   func(genericclioptions.RESTClientGetter) (cli.Cluster, error) { return s.Cluster, nil },
		Transport: gateway{s.Keptn}, Open: func(context.Context, string) error { return errors.New("there is no browser") },
	})
	command.SetArgs(arguments)
	err := command.ExecuteContext(ctx)
	if err != nil && !cli.IsSilent(err) {
		fmt.Fprintln(&written, "job-executor:", err)
	}
	return written.String(), cli.ExitCode(err)
}

// gateway is Keptn's api-gateway in front of a system's Keptn.
type gateway struct{ keptn console.Keptn }

// RoundTrip passes a request on. If Keptn does not answer with a success, the error's text contains its answer.
func (g gateway) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Host != "keptn.example.com" || request.Header.Get("x-token") != token {
		return nil, fmt.Errorf("a request to %s with token %q", request.URL.Host, request.Header.Get("x-token"))
	}
	content, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	answer, err := g.keptn.Call(request.Context(), request.Method, strings.TrimPrefix(request.URL.RequestURI(), "/api"), content)
	if err != nil {
		status, answer = http.StatusBadGateway, []byte(err.Error())
		var refusal struct{ Code int }
		if at := strings.Index(err.Error(), `{"code":`); at >= 0 && json.Unmarshal(answer[at:], &refusal) == nil {
			status, answer = refusal.Code, answer[at:]
		}
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), Request: request}, nil
}

const (
	stage   = "dev"
	service = "cart"
)

// story is a sequence, and the commands that a person runs on it.
type story struct {
	name   string
	tasks  []string
	config string
	// during is called once the first Job exists; nil for stories whose end matters.
	during func(t *testing.T, s System, keptnContext string)
	// code is the exit code of wait. If no action matches, Keptn waits for ever, and the commands run once its log says so.
	code      int
	unmatched bool
	// again is true if the sequence is also triggered again.
	again bool
	// commands are those to compare, with CONTEXT for the Keptn context.
	commands []string
}

func stories() []story {
	action := func(name, event, rest string) string {
		return fmt.Sprintf("- {name: %s, event: %s.triggered, image: busybox, %s}\n", name, event, rest)
	}
	return []story{
		{
			name: "passing", tasks: []string{"test", "release"},
			config: "- name: Greet\n  event: test.triggered\n  tasks:\n  - {name: hello, image: busybox, cmd: [echo, hello]}\n  - {name: bye, image: busybox, cmd: [echo, bye]}\n" +
				action("Release", "release", "cmd: [echo, released]"),
			commands: []string{"list CONTEXT", "list CONTEXT --task release --no-headers", "list CONTEXT --output name", "describe CONTEXT", "logs CONTEXT", "logs CONTEXT --task bye --follow"},
		},
		{
			name: "failing", tasks: []string{"test"}, code: 2, again: true,
			config:   action("Check", "test", "cmd: [sh, -c, 'echo checking; exit 3']"),
			commands: []string{"list CONTEXT --status errored", "describe CONTEXT", "logs CONTEXT --failed"},
		},
		{
			name: "reporting a failure", tasks: []string{"test"}, code: 1,
			config:   action("Check", "test", `cmd: [sh, -c, 'echo measuring; echo ''{"result": "fail", "message": "p95 is 900 ms"}'' > /dev/termination-log']`),
			commands: []string{"list CONTEXT", "describe CONTEXT", "logs CONTEXT --failed"},
		},
		{
			name: "retried", tasks: []string{"test"}, code: 2,
			config:   action("Flaky", "test", "retries: 1, cmd: [sh, -c, 'echo trying; exit 3']"),
			commands: []string{"describe CONTEXT", "logs CONTEXT", "logs CONTEXT --attempt 2"},
		},
		{
			name: "without a matching action", tasks: []string{"test"}, unmatched: true,
			config:   action("Other", "release", "cmd: [echo, never]"),
			commands: []string{"list CONTEXT", "describe CONTEXT", "logs CONTEXT", "wait CONTEXT --timeout 1s"},
		},
		{
			name: "with a mistake", tasks: []string{"test"}, code: 2,
			config:   action("Wrong", "test", "imag: busybox"),
			commands: []string{"describe CONTEXT", "wait CONTEXT"},
		},
		{
			name: "aborted", tasks: []string{"test"}, code: 2,
			config: action("Slow", "test", "cmd: [sleep, '600']"),
			during: func(t *testing.T, s System, keptnContext string) {
				t.Helper()
				if output, code := s.Call(t.Context(), "n\n", "cancel", keptnContext); code != 2 || !strings.Contains(output, "nothing was changed") {
					t.Errorf("declined: exit code %d, %s", code, output)
				}
				if output, code := s.Call(t.Context(), "yes\n", "cancel", keptnContext[:8]); code != 0 || !strings.Contains(output, "aborted") {
					t.Errorf("exit code %d, %s", code, output)
				}
			},
		},
	}
}

// Check tells each story, and compares what the commands print.
func Check(t *testing.T, s System) {
	t.Helper()
	for _, st := range stories() {
		t.Run(st.name, func(t *testing.T) { st.check(t, s) })
	}
}

func (st story) check(t *testing.T, s System) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.Limit)
	defer cancel()
	project := "commands-" + uuid.NewString()[:8]
	files := map[string][]byte{"job/config.yaml": []byte("apiVersion: v2\nactions:\n" + st.config)}
	if err := s.CreateProject(ctx, project, console.Shipyard(stage, st.tasks...), service, []string{stage}, files); err != nil {
		t.Fatal(err)
	}
	keptnContext, err := s.Trigger(ctx, project, stage, "pipeline", service, map[string]any{"labels": map[string]string{"build": "7"}})
	if err != nil {
		t.Fatal(err)
	}
	if st.during != nil {
		if err := console.Eventually(ctx, s.Limit, func(ctx context.Context) error {
			if output, code := s.Call(ctx, "", "list", keptnContext, "--no-headers"); code != 0 || !strings.Contains(output, "running") {
				return fmt.Errorf("nothing runs: %s", output)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		st.during(t, s, keptnContext)
	}
	if st.unmatched {
		if err := console.Eventually(ctx, s.Limit, func(ctx context.Context) error {
			if output, _ := s.Call(ctx, "", "describe", keptnContext); !strings.Contains(output, "no action") {
				return fmt.Errorf("Keptn's log has no entry: %s", output)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	} else if output, code := s.Call(ctx, "", "wait", keptnContext, "--timeout", s.Limit.String()); code != st.code {
		t.Errorf("wait ended with exit code %d, want %d: %s", code, st.code, output)
	}
	if st.again {
		output, code := s.Call(ctx, "y\n", "rerun", keptnContext)
		again := ids.FindString(output)
		if code != 0 || again == "" || again == keptnContext {
			t.Fatalf("rerun: exit code %d, %s", code, output)
		}
		if output, code := s.Call(ctx, "", "wait", again, "--timeout", s.Limit.String()); code != st.code {
			t.Errorf("waiting for the rerun ended with exit code %d, want %d: %s", code, st.code, output)
		}
	}
	for number, command := range st.commands {
		name := path.Join("testdata", strings.ReplaceAll(st.name, " ", "-"), fmt.Sprintf("%d-%s.txt", number+1, strings.Fields(command)[0]))
		// Keptn stores some events a little later.
		if err := console.Eventually(ctx, storeLimit, func(ctx context.Context) error {
			output, code := s.Call(ctx, "", strings.Fields(strings.ReplaceAll(command, "CONTEXT", keptnContext))...)
			return compare(name, fmt.Sprintf("$ job-executor %s\n%s(exit code %d)\n", command, normal(output, project, keptnContext), code))
		}); err != nil {
			t.Error(err)
		}
	}
}

var (
	headings  = regexp.MustCompile(`(Task \w+: \w+, )\S+;`)
	commits   = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	dates     = regexp.MustCompile(`\b\d{4}-\d\d-\d\d\b`)
	times     = regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`)
	durations = regexp.MustCompile(`(^| )(<1s|\d+(ms|s|m|m\d+s))( ago)?\b`)
	ids       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	pods      = regexp.MustCompile(`(job-ID-\d+-\d+)-[-a-z0-9]+( on [-.a-z0-9]+)?`)
	blanks    = regexp.MustCompile(`[ \t]+`)
)

// normal replaces what differs from run to run.
func normal(output, project, keptnContext string) string {
	output = strings.NewReplacer(keptnContext, "CONTEXT", project, "PROJECT").Replace(output)
	output = ids.ReplaceAllString(output, "ID")
	output = pods.ReplaceAllString(output, "$1-POD")
	output = headings.ReplaceAllString(output, "${1}DURATION;")
	output = commits.ReplaceAllString(output, "COMMIT")
	output = dates.ReplaceAllString(output, "DATE")
	output = times.ReplaceAllString(output, "TIME")
	lines := strings.Split(output, "\n")
	for index, line := range lines {
		line = durations.ReplaceAllString(blanks.ReplaceAllString(line, " "), "$1")
		lines[index] = strings.TrimRight(blanks.ReplaceAllString(line, " "), " ")
	}
	return strings.Join(lines, "\n")
}

// storeLimit is how long Keptn may take to store an event.
const storeLimit = 10 * time.Second

// compare compares an output with the golden file of a name, or writes it.
func compare(name, got string) error {
	if os.Getenv("UPDATE_GOLDEN") != "" {
		file := path.Join("../commands", name)
		return errors.Join(os.MkdirAll(path.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := golden.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%w; got:\n%s", err, got)
	}
	if difference := cmp.Diff(string(want), got); difference != "" {
		return fmt.Errorf("%s (-want +got):\n%s", name, difference)
	}
	return nil
}
