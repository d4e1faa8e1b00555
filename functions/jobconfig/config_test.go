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
		{"no version", "actions: []", "apiVersion must be specified"},
		{"empty file", "", "apiVersion must be specified"},
		{"another version", "apiVersion: v3", "apiVersion v3 is not supported, use v2"},
		{"an unknown field", "apiVersion: v2\nactions:\n- nam: A", "line 3: field nam is not a field of Action"},
		{"a field twice", "apiVersion: v2\napiVersion: v2", `line 2: mapping key "apiVersion" already defined at line 1`},
		{"no YAML", "apiVersion: [", "line 1: did not find expected node content"},
		{"a command that is no list", task("cmd: locust"), "line 7: cannot unmarshal !!str `locust` into []string"},
		{"an event name that is no expression", "apiVersion: v2\nactions:\n- name: A\n  events: [{name: '*.triggered'}]", `action "A": event name "*.triggered" is no regular expression`},
		{"no image", "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T}]", `action "A", task "T": image must be specified`},
		{"an unknown source of a variable", task("env: [{name: X, valueFrom: file}]"), "could not add env with name X, unknown valueFrom file"},
		{"a variable without a name", task("env: [{value: x, valueFrom: string}]"), "env with valueFrom string needs a name"},
		{"no time at all", task("maxPollDuration: 0"), "maxPollDuration must be a positive number of seconds, not 0"},
		{"an unknown pull policy", task("imagePullPolicy: Sometimes"), `imagePullPolicy "Sometimes" must be Always, IfNotPresent or Never`},
		{"a profile without a type", task("securityContext: {seccompProfile: {localhostProfile: x}}"), "securityContext.seccompProfile needs a type"},
		{"too large", strings.Repeat("#", MaxBytes+1), "has 262145 bytes, more than the 262144 that are allowed"},
		{"an event name that is too long", named(strings.Repeat("a", 513)), "it has 513 characters, more than 512"},
		{"an event name whose repetitions multiply", named("(abcdefgh){900}"), "its repetitions are too large"},
		{"event names that are too large together", many("a{500}b{500}"), "the names of all events together are too large"},
		{"a JSONPath that multiplies what it selects", "apiVersion: v2\nactions:\n- name: A\n  events: [{name: x, jsonpath: {property: '$..*..*..*', match: x}}]\n", "has more than one .. or more than 2 wildcards"},
		{"a JSONPath of a variable that is too long", "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T, image: i, env: [{name: X, valueFrom: event, value: '$." + strings.Repeat("a", 600) + "'}]}]\n", "JSONPath has 602 characters, more than 512"},
		{"too many tasks", "apiVersion: v2\nactions:\n- name: A\n  tasks:\n" + strings.Repeat("  - {image: i}\n", 1001), "it has 1001 tasks, more than 1000"},
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
		{"the exact type", "{name: sh.keptn.event.test.triggered}", true},
		{"a part of the type", "{name: test}", true},
		{"an expression", "{name: 'sh.keptn.event.(test|release).triggered'}", true},
		{"an empty name matches all", "{name: ''}", true},
		{"another type", "{name: sh.keptn.event.release.triggered}", false},
		{"any of several events is enough", "{name: release}, {name: test}", true},
		{"a value", "{name: test, jsonpath: {property: $.data.strategy, match: locust}}", true},
		{"another value", "{name: test, jsonpath: {property: $.data.strategy, match: k6}}", false},
		{"a missing value", "{name: test, jsonpath: {property: $.data.nothing, match: ''}}", false},
		{"a number", "{name: test, jsonpath: {property: $.data.number, match: '12345678'}}", true},
		{"a bool", "{name: test, jsonpath: {property: $.data.flag, match: 'true'}}", true},
		{"a list never matches", "{name: test, jsonpath: {property: $.data.list, match: '[\"a\",\"b\"]'}}", false},
		{"a broken expression never matches", "{name: test, jsonpath: {property: '$.[', match: x}}", false},
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
		{"text", Env{Value: "$.data.strategy"}, "locust", ""},
		{"a large number", Env{Value: "$.data.number"}, "12345678", ""},
		{"a list is JSON", Env{Value: "$.data.list"}, `["a","b"]`, ""},
		{"an object is JSON without HTML escapes", Env{Value: "$.data.object"}, `{"html":"<b>"}`, ""},
		{"an attribute", Env{Value: "$.type"}, "sh.keptn.event.test.triggered", ""},
		{"as YAML", Env{Value: "$.data.object", As: "YAML"}, "html: <b>\n", ""},
		{"text as JSON", Env{Value: "$.data.strategy", As: "json"}, `"locust"`, ""},
		{"in an unknown form", Env{Name: "X", Value: "$.id", As: "xml"}, "", "could not add env with name X, unknown as xml, use json or yaml"},
		{"what is not there", Env{Name: "X", Value: "$.data.nothing"}, "", "could not add env with name X, value $.data.nothing of the event: unknown key nothing"},
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
		{"$.data.deep.name", "inner", ""},
		{`$["data"]["a-b"]`, "dash", ""},
		{"$['data']['a-b']", "", "could not parse string"},
		{`$["data"].deep["name"]`, "inner", ""},
		{"$.data.list[0].kind", "x", ""},
		{"$.data.list[-1].size", "", "index -1 out of bounds"},
		{"$.data.list[0:2].kind", `["x","y"]`, ""},
		{"$.data.list[*].kind", `["x","y","y"]`, ""},
		{"$.data.list[0,2].size", `[1,3]`, ""},
		{"$..name", `["inner"]`, ""},
		{"$.data.list[?(@.kind=='y')].size", `[2,3]`, ""},
		{"$.data.list[?(@.size>1)].kind", "", "unexpected"},
		{"$.data.deep", `{"name":"inner","other":1}`, ""},
		{"$.data.nothing", "", "unknown key nothing"},
		{"$.data.list[7]", "", "index 7 out of bounds"},
		{"$.[", "", "unexpected"},
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
