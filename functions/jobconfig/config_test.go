package jobconfig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
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
	got := Parse(content)
	want := &Config{
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
	if difference := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}, Action{}, Event{}, Task{}), cmpopts.EquateEmpty()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	// The hash equals that of sha3sum, hashlib and the job-executor-service.
	if least := Parse([]byte("apiVersion: v2\n")); least.Hash != "7982304cf0b2743062832ebd6025a98646b23e97cf961837766ca2c8" {
		t.Errorf("the hash %q is no hexadecimal SHA3-224", least.Hash)
	}
}

// inTask is a file with lines in its one task; the first of them is line 7.
func inTask(lines string) string {
	return "apiVersion: v2\nactions:\n- name: A\n  tasks:\n  - name: T\n    image: i\n    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\n"
}

func TestParseNamesEachMistakeAndItsPlace(t *testing.T) {
	tests := []struct {
		name, content string
		// want are the mistakes, without "job/config.yaml is not valid: ".
		want []string
	}{
		{name: "no version", content: "actions: []", want: []string{"line 1, column 1: apiVersion must be specified: begin the file with apiVersion: v2"}},
		{name: "an empty file", want: []string{"line 1, column 1: apiVersion must be specified: begin the file with apiVersion: v2"}},
		{name: "another version", content: "apiVersion: v3", want: []string{"line 1, column 13: apiVersion v3 is not supported, use v2"}},
		{
			name: "the old version, before all else", content: "apiVersion: v1\nactions: 5",
			want: []string{
				"line 1, column 13: apiVersion v1 is not supported, use v2; in v2, cmd is a list of the program and its arguments, " +
					"such as [jmeter, -n], or args has the arguments",
			},
		},
		{name: "text", content: "hello", want: []string{`line 1, column 1: it must be a map that begins with apiVersion: v2, not "hello"`}},
		{name: "a list", content: "- hello", want: []string{"line 1, column 1: it must be a map that begins with apiVersion: v2, not a list"}},
		{
			name: "many at once", content: "apiVersion: v2\nactons: []\nactions:\n- nam: A\n  events: [{nme: x}]\n  tasks:\n" +
				"  - {name: T, img: x, maxPollDuration: abc, env: [{name: X, valueFrom: evnt}]}\n  -\n  - x\n",
			want: []string{
				"line 2, column 1: actons is not a known key; did you mean actions?",
				"line 4, column 3: actions[0].nam is not a known key; did you mean name?",
				"line 5, column 13: actions[0].events[0].nme is not a known key; did you mean name?",
				"line 7, column 5: actions[0].tasks[0] needs an image: image must be specified",
				"line 7, column 15: actions[0].tasks[0].img is not a known key; did you mean image?",
				`line 7, column 40: actions[0].tasks[0].maxPollDuration must be a whole number, not "abc"; write it without quotes and unit, for example 300`,
				`line 7, column 72: actions[0].tasks[0].env[0].valueFrom "evnt" must be one of event, secret, string; did you mean event?`,
				"line 8, column 4: actions[0].tasks[1] needs an image: image must be specified",
				`line 9, column 5: actions[0].tasks[2] must be a map, not "x"`,
			},
		},
		{
			name: "an unknown key without a similar one", content: inTask("resources: {limits: {disk: 1}}"),
			want: []string{"line 7, column 26: actions[0].tasks[0].resources.limits.disk is not a known key; valid keys are cpu, memory"},
		},
		{name: "a key twice", content: inTask("image: j"), want: []string{"line 7, column 5: actions[0].tasks[0].image is a duplicate of line 6"}},
		{
			name: "an invalid regular expression", content: named("*.triggered"),
			want: []string{
				`line 4, column 19: actions[0].events[0].name "*.triggered" is not a regular expression: missing argument to repetition operator: *; write .* for ` +
					`any text, or the whole event type`,
			},
		},
		{
			name: "an unknown source of a variable, and none", content: inTask("env: [{name: X, valueFrom: file}, {name: Y}]"),
			want: []string{
				`line 7, column 32: actions[0].tasks[0].env[0].valueFrom "file" must be one of event, secret, string`,
				"line 7, column 39: actions[0].tasks[0].env[1] needs valueFrom: one of event, secret, string",
			},
		},
		{
			name: "a variable without a name", content: inTask("env: [{value: x, valueFrom: string}]"),
			want: []string{"line 7, column 11: actions[0].tasks[0].env[0] needs a name"},
		},
		{
			name: "names that are invalid in Kubernetes",
			content: inTask("namespace: a/b\nserviceAccount: ..\nenv:\n- {name: a/b, valueFrom: secret}\n- {name: A=B, value: x, valueFrom: string}\n" +
				"- {name: größe, value: x, valueFrom: string}"),
			want: []string{
				`line 7, column 16: actions[0].tasks[0].namespace "a/b" is not a valid name of a namespace: use lower-case letters, digits and -`,
				`line 8, column 21: actions[0].tasks[0].serviceAccount ".." is not a valid name of a service account: use lower-case letters, digits and -`,
				`line 10, column 14: actions[0].tasks[0].env[0].name "a/b" is not a valid name of a Secret: use lower-case letters, digits and -`,
				`line 11, column 14: actions[0].tasks[0].env[1].name "A=B" is not a valid variable name: use printable ASCII characters except =`,
				`line 12, column 14: actions[0].tasks[0].env[2].name "größe" is not a valid variable name: use printable ASCII characters except =`,
			},
		},
		{
			name: "a form that there is not", content: inTask("env: [{name: X, value: $.id, valueFrom: event, as: xml}]"),
			want: []string{`line 7, column 56: actions[0].tasks[0].env[0].as "xml" must be one of string, json, yaml`},
		},
		{
			name: "invalid JSONPaths", content: inTask("env: [{name: X, value: '$.[', valueFrom: event}, {name: Y, valueFrom: event}]"),
			want: []string{
				"line 7, column 28: actions[0].tasks[0].env[0].value \"$.[\" is not a JSONPath; write, for example, " +
					"$.data.service, $.data.list[0] or $.data.labels['build-id']",
				"line 7, column 54: actions[0].tasks[0].env[1] needs a value: a JSONPath, for example $.data.service",
			},
		},
		{
			name:    "numbers",
			content: inTask("maxPollDuration: 0\nttlSecondsAfterFinished: soon\nsecurityContext: {runAsUser: -1, runAsGroup: 1.5, privileged: yess}"),
			want: []string{
				"line 7, column 22: actions[0].tasks[0].maxPollDuration must be from 1 to 2147483647, not 0",
				`line 8, column 30: actions[0].tasks[0].ttlSecondsAfterFinished must be a whole number, not "soon"; write it without quotes and unit, for example 300`,
				"line 9, column 34: actions[0].tasks[0].securityContext.runAsUser must be from 0 to 2147483647, not -1",
				`line 9, column 50: actions[0].tasks[0].securityContext.runAsGroup must be a whole number, not "1.5"`,
				`line 9, column 67: actions[0].tasks[0].securityContext.privileged must be true or false, not "yess"`,
			},
		},
		{
			name: "an unknown pull policy", content: inTask("imagePullPolicy: always"),
			want: []string{
				`line 7, column 22: actions[0].tasks[0].imagePullPolicy "always" must be one of Always, IfNotPresent, Never; did you mean Always?`,
			},
		},
		{
			name: "a security context that can't be",
			content: inTask("securityContext:\n  privileged: true\n  allowPrivilegeEscalation: false\n  runAsUser: 0\n" +
				"  procMount: x\n  seccompProfile: {localhostProfile: x}"),
			want: []string{
				"line 8, column 7: actions[0].tasks[0].securityContext runAsUser 0 needs runAsNonRoot: false",
				"line 8, column 7: actions[0].tasks[0].securityContext privileged: true needs allowPrivilegeEscalation: true",
				`line 11, column 18: actions[0].tasks[0].securityContext.procMount "x" must be one of Default, Unmasked`,
				"line 12, column 23: actions[0].tasks[0].securityContext.seccompProfile needs a type",
			},
		},
		{
			name: "a profile without a path", content: inTask("securityContext: {seccompProfile: {type: Localhost}}"),
			want: []string{
				"line 7, column 39: actions[0].tasks[0].securityContext.seccompProfile needs localhostProfile if, and only if, the type is Localhost",
			},
		},
		{
			name: "quantities", content: inTask("resources: {limits: {cpu: many, memory: -1}, requests: {cpu: 5Mo}}"),
			want: []string{
				`line 7, column 31: actions[0].tasks[0].resources.limits.cpu "many" is not a quantity: write it as 500m, 2, 128Mi or 1Gi`,
				`line 7, column 45: actions[0].tasks[0].resources.limits.memory "-1" is not a quantity: write it as 500m, 2, 128Mi or 1Gi`,
				`line 7, column 66: actions[0].tasks[0].resources.requests.cpu "5Mo" is not a quantity: write it as 500m, 2, 128Mi or 1Gi`,
			},
		},
		{
			name: "an invalid image", content: "apiVersion: v2\nactions: [{tasks: [{image: 'a b'}]}]",
			want: []string{`line 2, column 28: actions[0].tasks[0].image "a b" is not the name of an image: invalid reference format`},
		},
		{
			name: "files outside of the repository", content: inTask("files: [../x, a/../b, ~/c, 'd\\e']"),
			want: []string{
				`line 7, column 13: actions[0].tasks[0].files[0] "../x" contains ..: use a path in the project's repository`,
				`line 7, column 19: actions[0].tasks[0].files[1] "a/../b" contains ..: use a path in the project's repository`,
				`line 7, column 27: actions[0].tasks[0].files[2] "~/c" contains ~ or \, which Keptn does not allow in paths`,
				`line 7, column 32: actions[0].tasks[0].files[3] "d\\e" contains ~ or \, which Keptn does not allow in paths`,
			},
		},
		{
			name: "reserved and invalid annotations", content: inTask("annotations: {Job-Executor.github.io/silent: 'true', 'a b': c}"),
			want: []string{
				"line 7, column 19: actions[0].tasks[0].annotations.Job-Executor.github.io/silent is reserved: " +
					"Job Executor keeps its own annotations below job-executor.github.io/",
				"line 7, column 58: actions[0].tasks[0].annotations.a b is not a valid annotation name, for example example.com/team",
			},
		},
		{
			name: "extensions with mistakes",
			content: inTask("labels: {keptn.sh/context: x, job-name: x, a b: x, team: 'x y'}\nimagePullSecrets: [~, A/B]\nnodeSelector: {disk: 'x y'}\n" +
				"tolerations: [{kee: x}]\naffinity: 5\nvolumeSize: big\nretries: 11"),
			want: []string{
				`line 7, column 13: actions[0].tasks[0].labels has "x y" for team: a label value has at most 63 letters, digits, - _ or .`,
				"line 7, column 14: actions[0].tasks[0].labels.keptn.sh/context is reserved: Job Executor finds Jobs and pods by this label",
				"line 7, column 35: actions[0].tasks[0].labels.job-name is reserved: Job Executor finds Jobs and pods by this label",
				"line 7, column 48: actions[0].tasks[0].labels.a b is not a valid label name, for example example.com/team",
				"line 8, column 24: actions[0].tasks[0].imagePullSecrets[0] must name a Secret",
				`line 8, column 27: actions[0].tasks[0].imagePullSecrets[1] "A/B" is not a valid name of a Secret: use lower-case letters, digits and -`,
				`line 9, column 19: actions[0].tasks[0].nodeSelector has "x y" for disk: a label value has at most 63 letters, digits, - _ or .`,
				`line 10, column 19: actions[0].tasks[0].tolerations[0] does not match Kubernetes' format: unknown field "kee"`,
				"line 11, column 15: actions[0].tasks[0].affinity does not match Kubernetes' format: must be a map, not number",
				`line 12, column 17: actions[0].tasks[0].volumeSize "big" is not a quantity: write it as 500m, 2, 128Mi or 1Gi`,
				"line 13, column 14: actions[0].tasks[0].retries must be from 0 to 10, not 11",
			},
		},
		{
			name: "volumes that can't be",
			content: inTask("volumes:\n- {claim: c}\n- {mountPath: /x}\n- {claim: c, mountPath: /keptn/}\n- {claim: c, mountPath: /}\n" +
				"- {claim: c, mountPath: /x, subPath: ../y}"),
			want: []string{
				"line 8, column 7: actions[0].tasks[0].volumes[0] needs a claim and a mountPath, for example /data",
				"line 9, column 7: actions[0].tasks[0].volumes[1] needs a claim and a mountPath, for example /data",
				"line 10, column 7: actions[0].tasks[0].volumes[2] cannot be mounted at /keptn",
				"line 11, column 7: actions[0].tasks[0].volumes[3] cannot be mounted at /",
				`line 12, column 7: actions[0].tasks[0].volumes[4] has a subPath outside of the volume: "../y"`,
				"line 12, column 7: actions[0].tasks[0].volumes[4] is mounted at /x, which another volume already uses",
			},
		},
		{
			name: "keys of Secrets and ConfigMaps",
			content: inTask("env:\n- {name: A, secretKeyRef: {name: s}}\n- {name: B, configMapKeyRef: {name: c, key: k}, valueFrom: string}\n" +
				"- {name: C, secretKeyRef: {name: s, key: k}, configMapKeyRef: {name: c, key: k}}"),
			want: []string{
				"line 8, column 31: actions[0].tasks[0].env[0].secretKeyRef needs a name and a key of a Secret",
				"line 9, column 7: actions[0].tasks[0].env[1] valueFrom, secretKeyRef and configMapKeyRef are mutually exclusive",
				"line 10, column 7: actions[0].tasks[0].env[2] valueFrom, secretKeyRef and configMapKeyRef are mutually exclusive",
			},
		},
		{
			name: "both forms of an action", content: "apiVersion: v2\nactions:\n- event: x\n  events: [{name: y}]\n  image: a\n  tasks: []\n",
			want: []string{
				"line 3, column 10: actions[0].event and events are mutually exclusive: add it to events as {name: …}",
				"line 5, column 10: actions[0].image belongs to a task: write it below tasks, or write all keys of a single task at the action",
			},
		},
		{
			name: "lists and maps in each other's place", content: "apiVersion: v2\nactions: {a: b}\n",
			want: []string{"line 2, column 10: actions must be a list, not a map"},
		},
		{
			name:    "an anchor that contains itself",
			content: "apiVersion: v2\nactions: &a\n- *a\n",
			want:    []string{"line 2, column 10: actions[0] must be a map, not a list"},
		},
		{name: "too large", content: strings.Repeat("#", MaxBytes+1), want: []string{"it has 262145 bytes; the limit is 262144"}},
		{
			name: "a regular expression that is too long", content: named(strings.Repeat("a", 513)),
			want: []string{
				`line 4, column 19: actions[0].events[0].name "` + strings.Repeat(
					"a",
					80,
				) + `…" is not a regular expression: it has 513 characters; the limit is 512`,
			},
		},
		{
			name: "an event name whose repetitions multiply", content: named("(abcdefgh){900}"),
			want: []string{`line 4, column 19: actions[0].events[0].name "(abcdefgh){900}" is not a regular expression: its repetitions are too large`},
		},
		{
			name:    "a JSONPath with too many wildcards",
			content: "apiVersion: v2\nactions:\n- name: A\n  events: [{name: x, jsonpath: {property: '$..*..*..*', match: x}}]\n",
			want: []string{
				"line 4, column 43: actions[0].events[0].jsonpath.property is a JSONPath with more than one .. or more than 2 wildcards: $..*..*..*",
			},
		},
		{
			name: "a long JSONPath", content: inTask("env: [{name: X, valueFrom: event, value: $." + strings.Repeat("a", 600) + "}]"),
			want: []string{"line 7, column 46: actions[0].tasks[0].env[0].value is a JSONPath of 602 characters; the limit is 512"},
		},
		{
			name: "too many tasks", content: "apiVersion: v2\nactions:\n- name: A\n  tasks:\n" + strings.Repeat("  - {image: i}\n", 1001),
			want: []string{"line 1005, column 5: actions[0].tasks[1000] exceeds the limit: the file has more than 1000 tasks"},
		},
		{
			name: "aliases that multiply",
			content: "apiVersion: v2\nx-a: &a [" + strings.Repeat("x,", 200) + "]\nactions:\n- name: A\n  tasks:\n" +
				strings.Repeat("  - {image: i, cmd: *a, args: *a}\n", 200),
			want: []string{
				"line 2, column 204: actions[0].tasks[123].args[97] exceeds the limit: the file has more than 50000 values, counting each use of an alias",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, mistake := range Parse([]byte(test.content)).All() {
				got = append(got, mistake.String())
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestParseTakesWhatUsersWrite(t *testing.T) {
	const head = "apiVersion: v2\nactions:\n- name: A\n"
	task := func(task Task) []Action { return []Action{{Name: "A", Tasks: []Task{task}}} }
	tests := []struct {
		name, content string
		want          []Action
		warnings      []string
	}{
		{
			name: "the short form of an action", content: head + "  event: test.triggered\n  image: i\n  cmd: locust\n  args: [--host, x]\n  files: [a]\n",
			want: []Action{{
				Name: "A", Events: []Event{{Name: "test.triggered"}},
				Tasks: []Task{{Name: "A", Image: "i", Cmd: []string{"locust"}, Args: []string{"--host", "x"}, Files: []string{"a"}}},
			}},
		},
		{
			name: "one event, and tasks", content: head + "  event: test.triggered\n  tasks: [{name: T, image: i}]\n",
			want: []Action{{Name: "A", Events: []Event{{Name: "test.triggered"}}, Tasks: []Task{{Name: "T", Image: "i"}}}},
		},
		{
			name: "a command as text is one word", content: inTask("cmd: sh -c\nargs: x"),
			want:     task(Task{Name: "T", Image: "i", Cmd: []string{"sh -c"}, Args: []string{"x"}}),
			warnings: []string{"line 7, column 10: actions[0].tasks[0].cmd is one word, including the spaces; write a list for several words: [sh, -c]"},
		},
		{
			name: "empty items are empty texts", content: inTask("cmd: [a, ~, null, '']\nargs:\n- x\n-\n- y\nfiles: [~]"),
			want: task(Task{Name: "T", Image: "i", Cmd: []string{"a", "", "", ""}, Args: []string{"x", "", "y"}, Files: []string{""}}),
		},
		{
			name: "numbers and truths as text", content: inTask("args: [1, 1.50, true, 0x10]\nresources: {limits: {cpu: 1}}"),
			want: task(Task{
				Name: "T", Image: "i", Args: []string{"1", "1.50", "true", "0x10"}, Resources: &Resources{Limits: ResourceList{CPU: "1"}},
			}),
		},
		{
			name: "annotations as a list", content: inTask("annotations:\n- key1: value1\n- key2: 2"),
			want: task(Task{Name: "T", Image: "i", Annotations: map[string]string{"key1": "value1", "key2": "2"}}),
		},
		{
			name: "the default form of a value by its name", content: inTask("env: [{name: X, value: $.id, valueFrom: event, as: String}]"),
			want: task(Task{Name: "T", Image: "i", Env: []Env{{Name: "X", Value: "$.id", ValueFrom: "event", As: "string"}}}),
		},
		{
			name: "no actions", content: "apiVersion: v2\nactions: {}\n",
			warnings: []string{"line 2, column 10: actions must be a list, not a map"},
		},
		{
			name:    "nothing where there may be nothing",
			content: inTask("env:\nresources:\nsecurityContext:\nannotations:\nserviceAccount:\ncmd:\nmaxPollDuration:"),
			want:    task(Task{Name: "T", Image: "i"}),
		},
		{name: "the namespace's own account", content: inTask("serviceAccount: ''"), want: task(Task{Name: "T", Image: "i", ServiceAccount: new("")})},
		{
			name: "keys of the author's own, anchors and merges",
			content: "apiVersion: v2\nx-base: &base {image: i, cmd: a}\nactions:\n- name: A\n  x-note: 5\n  tasks:\n" +
				"  - {<<: *base, name: T, x-y: z}\n  - {name: U, <<: [*base, {args: b}], cmd: c}\n",
			want: []Action{{Name: "A", Tasks: []Task{
				{Name: "T", Image: "i", Cmd: []string{"a"}}, {Name: "U", Image: "i", Cmd: []string{"c"}, Args: []string{"b"}},
			}}},
		},
		{
			name: "what is ours",
			content: inTask("labels: {team: shop, n: 5}\nimagePullSecrets: [registry]\nnodeSelector: {disk: ssd}\nvolumeSize: 100Mi\nretries: 2\n" +
				"tolerations: [{key: gpu, operator: Exists}]\naffinity: {nodeAffinity: {}}\nvolumes: [{claim: data, mountPath: /data, subPath: a, readOnly: true}]\n" +
				"env: [{name: A, secretKeyRef: {name: s, key: k}}, {name: B, configMapKeyRef: {name: c, key: k}}]"),
			want: task(Task{
				Name: "T", Image: "i", Labels: map[string]string{"team": "shop", "n": "5"}, ImagePullSecrets: []string{"registry"},
				NodeSelector: map[string]string{"disk": "ssd"}, VolumeSize: "100Mi", Retries: new(int64(2)),
				Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}},
				Affinity:    &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}},
				Volumes:     []Volume{{Claim: "data", MountPath: "/data", SubPath: "a", ReadOnly: true}},
				Env:         []Env{{Name: "A", SecretKeyRef: &KeyRef{"s", "k"}}, {Name: "B", ConfigMapKeyRef: &KeyRef{"c", "k"}}},
			}),
		},
		{name: "all files", content: inTask("files: [/, a/]"), want: task(Task{Name: "T", Image: "i", Files: []string{"/", "a/"}})},
		{
			name:    "literal wildcards",
			content: inTask("files: ['*.txt']"),
			want:    task(Task{Name: "T", Image: "i", Files: []string{"*.txt"}}),
			warnings: []string{
				`line 7, column 13: actions[0].tasks[0].files[0] "*.txt" is used literally: wildcards are not supported; name the folder to copy all its files`,
			},
		},
		{
			name: "whole numbers, however written", content: inTask("maxPollDuration: 1e3\nsecurityContext: {runAsUser: 0, runAsNonRoot: no}"),
			want: task(Task{
				Name: "T", Image: "i", MaxPollDuration: new(int64(1000)), SecurityContext: SecurityContext{RunAsUser: new(int64(0)), RunAsNonRoot: new(false)},
			}),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := Parse([]byte(test.content))
			if difference := cmp.Diff(Mistakes{}, config.All(), cmpopts.EquateEmpty()); difference != "" {
				t.Errorf("mistakes (-want +got):\n%s", difference)
			}
			var warnings []string
			for _, warning := range config.Warnings {
				warnings = append(warnings, warning.String())
			}
			if difference := cmp.Diff(test.warnings, warnings); difference != "" {
				t.Errorf("warnings (-want +got):\n%s", difference)
			}
			if difference := cmp.Diff(test.want, config.Actions, cmpopts.IgnoreUnexported(Action{}, Event{}, Task{}), cmpopts.EquateEmpty()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A mistake concerns the tasks of its action. If a part of the file cannot be parsed, it concerns the types
// that the file contains.
func TestMistakesAreOfTheActionsThatMatch(t *testing.T) {
	const good = "- name: Good\n  event: test.triggered\n  image: i\n"
	tests := []struct {
		name, content string
		want          []string
	}{
		{name: "no mistake", content: good},
		{
			name: "an action that matches", content: "- name: Bad\n  event: test\n  image: i\n  cmd: {a: b}\n" + good,
			want: []string{"line 6, column 8: actions[0].cmd must be a list, not a map"},
		},
		{name: "one that matches another event", content: "- name: Bad\n  event: release\n  image: i\n  cmd: {a: b}\n" + good},
		{name: "one whose event can't be read, beside one that matches", content: "- name: Bad\n  event: '*.triggered'\n  image: i\n" + good},
		{name: "only mistakes, without the event's type", content: "- name: Bad\n  event: '*.triggered'\n  image: i\n"},
		{
			name: "only mistakes, with the event's type", content: "- name: Bad\n  evnt: sh.keptn.event.test.triggered\n  image: i\n",
			want: []string{"line 4, column 3: actions[0].evnt is not a known key; did you mean event?"},
		},
		{
			name: "a key that is not a known key at the top", content: good + "acton: x\n",
			want: []string{"line 6, column 1: acton is not a known key; did you mean actions?"},
		},
		{
			name: "invalid YAML with the event's type", content: good + "  cmd: [sh.keptn.event.test.triggered\n",
			want: []string{"line 6, column 8: a closing ] or a comma is missing in this list"},
		},
		{name: "invalid YAML without the event's type", content: good + "  cmd: [a\n"},
		{
			name:    "a mistake in another action, with the event's type",
			content: "- name: Bad\n  event: release\n  image: i\n  cmd: {sh.keptn.event.test.triggered: b}\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := Parse([]byte("apiVersion: v2\nactions:\n" + test.content))
			var got []string
			for _, mistake := range config.MistakesFor(config.Match(envelope), "sh.keptn.event.test.triggered") {
				got = append(got, mistake.String())
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestMistakesAreToldTogetherButNotAllOfVeryMany(t *testing.T) {
	one := Mistake{Line: 3, Column: 4, Text: "x is wrong"}
	tests := []struct {
		name     string
		mistakes Mistakes
		want     string
	}{
		{name: "one", mistakes: Mistakes{one}, want: "job/config.yaml is not valid: line 3, column 4: x is wrong"},
		{
			name: "two", mistakes: Mistakes{one, {Text: "y"}},
			want: "job/config.yaml is not valid: 2 mistakes:\n- line 3, column 4: x is wrong\n- y",
		},
		{
			name: "very many", mistakes: slices.Repeat(Mistakes{{Text: "y"}}, 22),
			want: "job/config.yaml is not valid: 22 mistakes:" + strings.Repeat("\n- y", 20) + "\n- and 2 more",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if difference := cmp.Diff(test.want, test.mistakes.Error()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

var envelope = Envelope{
	"id": "1", "type": "sh.keptn.event.test.triggered", "shkeptncontext": "c",
	"data": map[string]any{
		"strategy": "locust", "number": json.Number("12345678"), "large": json.Number("9007199254740993"), "flag": true, "list": []any{"a", "b"},
		"object":  map[string]any{"html": "<b>"},
		"numbers": []any{json.Number("12345678"), json.Number("9007199254740993"), json.Number("1.50"), map[string]any{"text": "12"}},
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
			config := Parse([]byte("apiVersion: v2\nactions:\n- name: other\n- name: A\n  events: [" + test.events + "]"))
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
		{name: "a larger number than a float can hold", env: Env{Value: "$.data.large"}, want: "9007199254740993"},
		{name: "as YAML", env: Env{Value: "$.data.object", As: "yaml"}, want: "html: <b>\n"},
		{
			name: "with its numbers as they are", env: Env{Value: "$.data.numbers", As: "yaml"},
			want: "- 12345678\n- 9007199254740993\n- 1.50\n- text: \"12\"\n",
		},
		{name: "text as JSON", env: Env{Value: "$.data.strategy", As: "json"}, want: `"locust"`},
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
	paths, err := filepath.Glob("testdata/corpus/*/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("there is no corpus: %v", err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("apiVersion: v2\nactions: [{name: A, events: [{name: test, jsonpath: {property: $..a, match: x}}]}]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		config := Parse(content)
		matched := config.Match(envelope)
		for _, mistake := range append(config.All(), config.Warnings...) {
			// A line ends by any of these in YAML 1.1.
			if lines := len(regexp.MustCompile("\n|\r|\u0085|\u2028|\u2029").FindAll(content, -1)) + 2; mistake.Line > lines || !utf8.ValidString(mistake.Text) {
				t.Errorf("of %d lines: %+v", lines, mistake)
			}
		}
		if len(config.MistakesFor(matched, "sh.keptn.event.test.triggered")) > len(config.All()) {
			t.Error("there are more mistakes in the way than in the file")
		}
	})
}

func TestParseTakesWhatIsJustAllowed(t *testing.T) {
	const variable = "apiVersion: v2\nactions:\n- name: A\n  tasks: [{name: T, image: i, maxPollDuration: 1, env: [{name: X, valueFrom: event, value: '%s'}]}]\n"
	least := "apiVersion: v2\n"
	tests := []struct{ name, content string }{
		{"the largest file", least + strings.Repeat("#", MaxBytes-len(least))},
		{"the longest event name", named(strings.Repeat("a", 512))},
		{"the longest JSONPath", fmt.Sprintf(variable, "$."+strings.Repeat("a", 510))},
		{"as many wildcards as may be", fmt.Sprintf(variable, "$..a.*")},
		{"as many tasks as may be", "apiVersion: v2\nactions:\n- name: A\n  tasks:\n" + strings.Repeat("  - {image: i}\n", maxTasks)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if all := Parse([]byte(test.content)).All(); len(all) > 0 {
				t.Error(all)
			}
		})
	}
}

func TestSelectorsAreTold(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{name: "none", content: "apiVersion: v2", want: "none names an event"},
		{
			name: "with what they compare", content: named("test") + "- {name: B, events: [{name: a, jsonpath: {property: $.data.x, match: 5}}, {name: b}]}\n",
			want: `"A" is for test; "B" is for a where $.data.x is "5"; "B" is for b`,
		},
		{
			name: "not all of very many", content: many("x"), want: strings.Repeat(`"A" is for x; `, 20) + "and 80 more",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Parse([]byte(test.content)).Selectors(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// The parser reports settings that the API server would refuse, or that do not mean what their
// author intended, and says what to write instead.
func TestMistakesSayWhatToWrite(t *testing.T) {
	task := func(text string) string {
		return "apiVersion: v2\nactions:\n- name: A\n  event: sh.keptn.event.test.triggered\n  image: i\n  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
	}
	action := func(text string) string {
		return "apiVersion: v2\nactions:\n- " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
	}
	const refused = "actions[0].tolerations[0] would be rejected by Kubernetes: "
	const affinity = "actions[0].affinity would be rejected by Kubernetes: "
	tests := []struct{ name, content, mistake, warning string }{
		{name: "a toleration", content: task("tolerations: [{key: spot, operator: Exists, effect: NoExecute, tolerationSeconds: 5}, {operator: Exists}]")},
		{
			name:    "a toleration's operator",
			content: task(`tolerations: [{key: spot, operator: Equals, value: "true"}]`),
			mistake: refused + `operator: Unsupported value: "Equals": supported values: "Equal", "Exists"`,
		},
		{
			name:    "a toleration's effect",
			content: task("tolerations: [{key: spot, effect: NoSchedules}]"),
			mistake: refused + `effect: Unsupported value: "NoSchedules": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
		},
		{
			name:    "a toleration's value",
			content: task(`tolerations: [{key: spot, operator: Exists, value: "true"}]`),
			mistake: refused + `value: Invalid value: "true": must be empty when operator is Exists`,
		},
		{
			name:    "a toleration without a key",
			content: task("tolerations: [{value: x}]"),
			mistake: refused + `operator: Invalid value: "": must be Exists when key is empty, which means all keys`,
		},
		{
			name:    "a toleration's seconds",
			content: task("tolerations: [{key: a, effect: NoSchedule, tolerationSeconds: 5}]"),
			mistake: refused + `effect: Invalid value: "NoSchedule": must be NoExecute when tolerationSeconds is set`,
		},
		{
			name:    "a toleration's type",
			content: task(`tolerations: [{key: a, operator: Exists, tolerationSeconds: "5"}]`),
			mistake: "actions[0].tolerations[0] does not match Kubernetes' format: tolerationSeconds: must be a whole number without quotes, not string",
		},
		{
			name:    "an affinity without terms",
			content: task("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}"),
			mistake: affinity + "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node " +
				"selector term",
		},
		{
			name: "an affinity's operator",
			content: task("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, " +
				"operator: Is, values: [b]}]}]}}}"),
			mistake: affinity + `nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: ` +
				`"Is": not a valid selector operator`,
		},
		{
			name: "an affinity's values",
			content: task("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, " +
				"operator: In}]}]}}}"),
			mistake: affinity + "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: " +
				"must be specified when operator is In or NotIn",
		},
		{
			name: "an affinity's weight",
			content: task("affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, " +
				"operator: Exists}]}}]}}"),
			mistake: affinity + "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
		},
		{
			name:    "an affinity's topology",
			content: task("affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {a: b}}}]}}"),
			mistake: affinity + "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
		},
		{
			name: "an affinity's label keys",
			content: task("affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, labelSelector: {matchLabels: {a: b}}, " +
				"matchLabelKeys: [a]}]}}"),
			mistake: affinity + `podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: "a": exists in both ` +
				"matchLabelKeys and labelSelector",
		},
		{
			name: "an affinity with several mistakes",
			content: task("affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, " +
				"matchLabelKeys: [a], mismatchLabelKeys: [b]}]}}"),
			mistake: affinity + `podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when ` +
				"labelSelector is not set\n" + affinity + "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys: " +
				"Forbidden: must not be specified when labelSelector is not set",
		},
		{
			name:    "a profile above its folder",
			content: task("securityContext: {seccompProfile: {type: Localhost, localhostProfile: profiles/../audit.json}}"),
			mistake: `actions[0].securityContext.seccompProfile has a localhostProfile outside of the kubelet's folder seccomp: "profiles/../audit.json"`,
		},
		{
			name:    "a mount path twice",
			content: task("volumes: [{claim: data, mountPath: /data}, {claim: other, mountPath: /data/}]"),
			mistake: "actions[0].volumes[1] is mounted at /data, which another volume already uses",
		},
		{
			name:    "requests above limits",
			content: task("resources: {requests: {cpu: 200m}, limits: {cpu: 100m}}"),
			mistake: "actions[0].resources requests 200m of cpu, which exceeds its limit of 100m",
		},
		{
			name:    "an unmasked /proc",
			content: task("securityContext: {procMount: Unmasked}"),
			mistake: "actions[0].securityContext.procMount Unmasked needs hostUsers: false, which is not supported",
		},
		{
			name:    "a capability",
			content: task("securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}"),
			mistake: "actions[0].securityContext capability CAP_SYS_ADMIN needs allowPrivilegeEscalation: true; write capabilities without CAP_",
		},
		{name: "a pull secret in Kubernetes' form", content: task("imagePullSecrets: [{name: regcred}]")},
		{
			name:    "a key that would control a terminal",
			content: task(`"a\e[2K": x`),
			mistake: `actions[0].a\x1b[2K is not a known key; valid keys are ` + strings.Join(slices.Sorted(slices.Values(append(namesOf(taskFields()),
				"event", "events", "parallel", "silent", "tasks"))), ", "),
		},
		{
			name:    "a label that would begin a line",
			content: task(`labels: {"a\n::error::b": c}`),
			mistake: `actions[0].labels.a\n::error::b is not a valid label name, for example example.com/team`,
		},
		{name: "another format's key", content: task("workingDirectory: /"), mistake: "actions[0].workingDirectory is not a known key; did you mean workingDir?"},
		{name: "another format's command", content: task("command: ls"), mistake: "actions[0].command is not a known key; did you mean cmd?"},
		{
			name:    "another format's account",
			content: task("serviceAccountName: a"),
			mistake: "actions[0].serviceAccountName is not a known key; did you mean serviceAccount?",
		},
		{name: "another format's policy", content: task("pullPolicy: Always"), mistake: "actions[0].pullPolicy is not a known key; did you mean imagePullPolicy?"},
		{name: "another format's event", content: action("name: A\non: test\nimage: i"), mistake: "actions[0].on is not a known key; did you mean event?"},
		{
			name:    "another format's tasks",
			content: action("name: A\nevent: a.test.triggered\nsteps: []"),
			mistake: "actions[0].steps is not a known key; did you mean tasks?",
		},
		{
			name:    "an action's key",
			content: action("name: A\nevent: a.test.triggered\ntasks: [{image: i, parallel: true}]"),
			mistake: "actions[0].tasks[0].parallel is not a known key; move it to the action",
		},
		{
			name:    "a source in Kubernetes' form",
			content: task("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"),
			mistake: "actions[0].env[0].valueFrom must be one of event, secret, string; put secretKeyRef next to name, without valueFrom",
		},
		{
			name:    "a plain value",
			content: task("env: [{name: A, value: b}]"),
			mistake: "actions[0].env[0] needs valueFrom: one of event, secret, string; for a fixed text: valueFrom: string",
		},
		{
			name:    "a number in quotes",
			content: task(`ttlSecondsAfterFinished: "100"`),
			mistake: `actions[0].ttlSecondsAfterFinished must be a whole number, not "100"; write it without quotes and unit, for example 300`,
		},
		{
			name:    "a template",
			content: action("name: A\nevent: a.test.triggered\nimage: {{ .Values.image }}"),
			mistake: "actions[0].image must be text, not a map; this looks like a template that was not filled in",
		},
		{
			name:    "a key of a Secret",
			content: task(`env: [{name: A, secretKeyRef: {name: a, key: "a b"}}]`),
			mistake: `actions[0].env[0].secretKeyRef has key "a b": a key may contain letters, digits, -, _ and .`,
		},
		{name: "blanks around a path", content: task(`env: [{name: A, valueFrom: event, value: " $.data.service "}]`)},
		{name: "a last ---", content: task("cmd: ls") + "---\n"},
		{
			name: "merged labels",
			content: "apiVersion: v2\nx-l: &l {a: b}\nactions:\n- {name: A, event: a.test.triggered, image: i, labels: {<<: *l, c: d}, annotations: {<<: " +
				"[*l]}, nodeSelector: {<<: *l}}\n",
		},
		{
			name:    "a part of an event's type",
			content: action("name: A\nevent: test\nimage: i"),
			warning: `actions[0].event "test" also matches started and finished events; write sh.keptn.event.test.triggered`,
		},
		{
			name:    "a sequence's event",
			content: action("name: A\nevent: sh.keptn.event.dev.delivery.triggered\nimage: i"),
			warning: `actions[0].event "sh.keptn.event.dev.delivery.triggered" is the event of sequence delivery in stage dev, not of a task; a task's event is ` +
				`sh.keptn.event.TASK.triggered`,
		},
		{
			name:    "a shell's command",
			content: task("cmd: echo hi && echo there"),
			warning: `actions[0].cmd is one word and does not run in a shell; write [sh, -c, "echo hi && echo there"]`,
		},
		{
			name:    "an action without a name",
			content: action("event: a.test.triggered\ntasks: [{image: i}]"),
			warning: "actions[0] should have a name, which appears in messages and in the labels of its Jobs",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := Parse([]byte(test.content))
			texts := func(all Mistakes) (texts []string) {
				for _, mistake := range all {
					texts = append(texts, mistake.Text)
				}
				return texts
			}
			wanted := func(text string) []string {
				if text == "" {
					return nil
				}
				return strings.Split(text, "\n")
			}
			if difference := cmp.Diff(wanted(test.mistake), texts(config.All())); difference != "" {
				t.Errorf("mistakes (-want +got):\n%s", difference)
			}
			if difference := cmp.Diff(wanted(test.warning), texts(config.Warnings)); difference != "" {
				t.Errorf("warnings (-want +got):\n%s", difference)
			}
		})
	}
}

// Each level of merges doubles the maps to search for a key.
func TestMergesThatMultiplyAreRefused(t *testing.T) {
	const levels = 60
	var text strings.Builder
	text.WriteString("apiVersion: v2\nx-0: &level0 {x-key: 1}\n")
	for level := 1; level <= levels; level++ {
		fmt.Fprintf(&text, "x-%d: &level%d {<<: [*level%d, *level%d]}\n", level, level, level-1, level-1)
	}
	merged := fmt.Sprintf("<<: *level%d", levels)
	fmt.Fprintf(&text, "actions: [{name: a, %s, tasks: [{image: i, %s, env: [{name: A, %s}]}]}]\n", merged, merged, merged)
	found := fmt.Sprint(Parse([]byte(text.String())).All())
	if !strings.Contains(found, "exceeds the limit: the file has more than 50000 values") {
		t.Errorf("got %s", found)
	}
}
