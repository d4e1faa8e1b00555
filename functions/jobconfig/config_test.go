package jobconfig

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// named is a file with an event of a name.
func named(name string) string {
	return "apiVersion: v2\nactions:\n- name: A\n  events: [{name: '" + name + "'}]\n"
}

// many is a file with many of them.
func many(name string) string {
	return "apiVersion: v2\nactions:\n- name: A\n  events:\n" + strings.Repeat("  - {name: '"+name+"'}\n", 100)
}

func TestParseReadsEveryFieldThatJESDocuments(t *testing.T) {
	content, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		APIVersion: "v2",
		Actions: []Action{{
			Name:   "Everything",
			Events: []Event{{Name: "sh.keptn.event.test.triggered", JSONPath: JSONPath{Property: "$.data.test.teststrategy", Match: "locust"}}},
			Silent: true,
			Tasks: []Task{{
				Name: "A task", Files: []string{"locust/basic.py", "/locust"}, Image: "locustio/locust", ImagePullPolicy: "Always",
				Cmd: []string{"locust"}, Args: []string{"-f", "/keptn/locust/basic.py"}, WorkingDir: "/bin",
				Env: []Env{
					{Name: "HOST", Value: "$.data.deployment.deploymentURIsLocal[0]", ValueFrom: "event"},
					{Name: "ALL", Value: "$.data", ValueFrom: "event", As: "yaml"},
					{Name: "locust-secret", ValueFrom: "secret"}, {Name: "PLAIN", Value: "text", ValueFrom: "string"},
				},
				Resources:       &Resources{Limits: ResourceList{CPU: "1", Memory: "512Mi"}, Requests: ResourceList{CPU: "50m", Memory: "128Mi"}},
				MaxPollDuration: new(int64(1200)), Namespace: "carts", TTLSecondsAfterFinished: new(int32(100)),
				SecurityContext: SecurityContext{
					Capabilities: &Capabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"all"}}, Privileged: new(false),
					RunAsUser: new(int64(1)), RunAsGroup: new(int64(2)), RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true),
					AllowPrivilegeEscalation: new(false), ProcMount: new("Default"),
					SeccompProfile: &SeccompProfile{Type: "Localhost", LocalhostProfile: new("profile.json")},
				},
				ServiceAccount: new("deployer"), Annotations: map[string]string{"example.com/team": "shop"},
			}},
		}},
		Hash: got.Hash,
	}
	if difference := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Event{})); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	// As sha3sum and hashlib have it, and so the job-executor-service.
	least, err := Parse([]byte("apiVersion: v2\n"))
	if err != nil || least.Hash != "7982304cf0b2743062832ebd6025a98646b23e97cf961837766ca2c8" {
		t.Errorf("the hash %q is no hexadecimal SHA3-224: %v", least.Hash, err)
	}
}

func TestParseNamesTheMistake(t *testing.T) {
	task := func(lines string) string {
		return "apiVersion: v2\nactions:\n- name: A\n  tasks:\n  - name: T\n    image: i\n    " + lines
	}
	tests := []struct{ name, content, want string }{
		{name: "no version", content: "actions: []", want: "apiVersion must be specified"},
		{name: "empty file", want: "apiVersion must be specified"},
		{name: "another version", content: "apiVersion: v3", want: "apiVersion v3 is not supported, use v2"},
		{name: "an unknown field", content: "apiVersion: v2\nactions:\n- nam: A", want: "line 3: field nam is not a field of Action"},
		{name: "a field twice", content: "apiVersion: v2\napiVersion: v2", want: `line 2: mapping key "apiVersion" already defined at line 1`},
		{name: "no YAML", content: "apiVersion: [", want: "line 1: did not find expected node content"},
		{name: "a command that is no list", content: task("cmd: locust"), want: "line 7: cannot unmarshal !!str `locust` into []string"},
		{
			name:    "an event name that is no expression",
			content: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: '*.triggered'}]",
			want:    `action "A": event name "*.triggered" is no regular expression`,
		},
		{name: "no image", content: "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T}]", want: `action "A", task "T": image must be specified`},
		{
			name:    "an unknown source of a variable",
			content: task("env: [{name: X, valueFrom: file}]"),
			want:    "could not add env with name X, unknown valueFrom file",
		},
		{name: "a variable without a name", content: task("env: [{value: x, valueFrom: string}]"), want: "env with valueFrom string needs a name"},
		{name: "no time at all", content: task("maxPollDuration: 0"), want: "maxPollDuration must be a positive number of seconds, not 0"},
		{
			name:    "an unknown pull policy",
			content: task("imagePullPolicy: Sometimes"),
			want:    `imagePullPolicy "Sometimes" must be Always, IfNotPresent or Never`,
		},
		{
			name:    "a profile without a type",
			content: task("securityContext: {seccompProfile: {localhostProfile: x}}"),
			want:    "securityContext.seccompProfile needs a type",
		},
		{name: "too large", content: strings.Repeat("#", MaxBytes+1), want: "has 262145 bytes, more than the 262144 that are allowed"},
		{name: "an event name that is too long", content: named(strings.Repeat("a", 513)), want: "it has 513 characters, more than 512"},
		{name: "an event name whose repetitions multiply", content: named("(abcdefgh){900}"), want: "its repetitions are too large"},
		{name: "event names that are too large together", content: many("a{500}b{500}"), want: "the names of all events together are too large"},
		{
			name:    "a JSONPath that multiplies what it selects",
			content: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: x, jsonpath: {property: '$..*..*..*', match: x}}]\n",
			want:    "has more than one .. or more than 2 wildcards",
		},
		{
			name: "a JSONPath of a variable that is too long",
			content: "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T, image: i, env: [{name: X, valueFrom: event, value: '$." + strings.Repeat(
				"a",
				600,
			) + "'}]}]\n",
			want: "JSONPath has 602 characters, more than 512",
		},
		{
			name:    "too many tasks",
			content: "apiVersion: v2\nactions:\n- name: A\n  tasks:\n" + strings.Repeat("  - {image: i}\n", 1001),
			want:    "it has 1001 tasks, more than 1000",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.content))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), Path) {
				t.Errorf("got %v, want it to begin with %s and to contain %q", err, Path, test.want)
			}
		})
	}
}

var envelope = Envelope{
	"id": "1", "type": "sh.keptn.event.test.triggered", "shkeptncontext": "c",
	"data": map[string]any{
		"strategy": "locust", "number": 12345678.0, "flag": true, "list": []any{"a", "b"},
		"object": map[string]any{"html": "<b>"},
	},
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name, events string
		want         bool
	}{
		{name: "the exact type", events: "{name: sh.keptn.event.test.triggered}", want: true},
		{name: "a part of the type", events: "{name: test}", want: true},
		{name: "an expression", events: "{name: 'sh.keptn.event.(test|release).triggered'}", want: true},
		{name: "an empty name matches all", events: "{name: ''}", want: true},
		{name: "another type", events: "{name: sh.keptn.event.release.triggered}"},
		{name: "any of several events is enough", events: "{name: release}, {name: test}", want: true},
		{name: "a value", events: "{name: test, jsonpath: {property: $.data.strategy, match: locust}}", want: true},
		{name: "another value", events: "{name: test, jsonpath: {property: $.data.strategy, match: k6}}"},
		{name: "a missing value", events: "{name: test, jsonpath: {property: $.data.nothing, match: ''}}"},
		{name: "a number", events: "{name: test, jsonpath: {property: $.data.number, match: '12345678'}}", want: true},
		{name: "a bool", events: "{name: test, jsonpath: {property: $.data.flag, match: 'true'}}", want: true},
		{name: "a list never matches", events: "{name: test, jsonpath: {property: $.data.list, match: '[\"a\",\"b\"]'}}"},
		{name: "a broken expression never matches", events: "{name: test, jsonpath: {property: '$.[', match: x}}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config, err := Parse([]byte("apiVersion: v2\nactions:\n- name: other\n- name: A\n  events: [" + test.events + "]"))
			if err != nil {
				t.Fatal(err)
			}
			var want []int
			if test.want {
				want = []int{1}
			}
			var got []int
			for _, action := range config.Match(envelope) {
				got = append(got, action.Index)
			}
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("indexes (-want +got):\n%s", difference)
			}
		})
	}
}

func TestEventValue(t *testing.T) {
	tests := []struct {
		name      string
		env       Env
		want, err string
	}{
		{name: "text", env: Env{Value: "$.data.strategy"}, want: "locust"},
		{name: "a large number", env: Env{Value: "$.data.number"}, want: "12345678"},
		{name: "a list is JSON", env: Env{Value: "$.data.list"}, want: `["a","b"]`},
		{name: "an object is JSON without HTML escapes", env: Env{Value: "$.data.object"}, want: `{"html":"<b>"}`},
		{name: "an attribute", env: Env{Value: "$.type"}, want: "sh.keptn.event.test.triggered"},
		{name: "as YAML", env: Env{Value: "$.data.object", As: "YAML"}, want: "html: <b>\n"},
		{name: "text as JSON", env: Env{Value: "$.data.strategy", As: "json"}, want: `"locust"`},
		{
			name: "in an unknown form",
			env:  Env{Name: "X", Value: "$.id", As: "xml"},
			err:  "could not add env with name X, unknown as xml, use json or yaml",
		},
		{
			name: "what is not there",
			env:  Env{Name: "X", Value: "$.data.nothing"},
			err:  "could not add env with name X, value $.data.nothing of the event: unknown key nothing",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.env.EventValue(envelope)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got != test.want || message != test.err {
				t.Errorf("got %q, %q; want %q, %q", got, message, test.want, test.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	content, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte("apiVersion: v2\nactions: [{name: A, events: [{name: test, jsonpath: {property: $..a, match: x}}]}]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		config, err := Parse(content)
		if (config == nil) == (err == nil) {
			t.Fatalf("got %v and %v", config, err)
		}
		if config != nil {
			config.Match(envelope)
		}
	})
}

// The dialect of JSONPath is that of the job-executor-service, whose library is used
// (PaesslerAG/jsonpath, of which there is no newer version): what its users write keeps
// its meaning.
func TestTheDialectOfJSONPath(t *testing.T) {
	event := Envelope{"data": map[string]any{
		"a-b": "dash", "deep": map[string]any{"name": "inner", "other": 1.0},
		"list": []any{map[string]any{"kind": "x", "size": 1.0}, map[string]any{"kind": "y", "size": 2.0}, map[string]any{"kind": "y", "size": 3.0}},
	}}
	tests := []struct{ path, want, err string }{
		{path: "$.data.deep.name", want: "inner"},
		{path: `$["data"]["a-b"]`, want: "dash"},
		{path: "$['data']['a-b']", err: "could not parse string"},
		{path: `$["data"].deep["name"]`, want: "inner"},
		{path: "$.data.list[0].kind", want: "x"},
		{path: "$.data.list[-1].size", err: "index -1 out of bounds"},
		{path: "$.data.list[0:2].kind", want: `["x","y"]`},
		{path: "$.data.list[*].kind", want: `["x","y","y"]`},
		{path: "$.data.list[0,2].size", want: `[1,3]`},
		{path: "$..name", want: `["inner"]`},
		{path: "$.data.list[?(@.kind=='y')].size", want: `[2,3]`},
		{path: "$.data.list[?(@.size>1)].kind", err: "unexpected"},
		{path: "$.data.deep", want: `{"name":"inner","other":1}`},
		{path: "$.data.nothing", err: "unknown key nothing"},
		{path: "$.data.list[7]", err: "index 7 out of bounds"},
		{path: "$.[", err: "unexpected"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			got, err := (&Env{Name: "X", Value: test.path, ValueFrom: ValueFromEvent}).EventValue(event)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestParseTakesWhatIsJustAllowed(t *testing.T) {
	const variable = "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T, image: i, maxPollDuration: 1, env: [{name: X, valueFrom: event, value: '%s'}]}]\n"
	least := "apiVersion: v2\n"
	tests := []struct{ name, content string }{
		{"the largest file", least + strings.Repeat("#", MaxBytes-len(least))},
		{"the longest event name", named(strings.Repeat("a", maxPatternBytes))},
		{"the longest JSONPath", fmt.Sprintf(variable, "$."+strings.Repeat("a", maxPathBytes-2))},
		{"as many wildcards as may be", fmt.Sprintf(variable, "$..a.*")},
		{"as many tasks as may be", "apiVersion: v2\nactions:\n- name: A\n  tasks:\n" + strings.Repeat("  - {image: i}\n", maxTasks)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Parse([]byte(test.content)); err != nil {
				t.Error(err)
			}
		})
	}
}
