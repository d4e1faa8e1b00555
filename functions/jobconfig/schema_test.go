package jobconfig

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/job-executor/job-executor/test/fixture"
)

const schemaPath = "../../kodata/job-config.schema.json"

// With -update, the test writes the schema: go test ./functions/jobconfig -run Schema -update
var update = flag.Bool("update", false, "write the schema")

func TestSchemaIsThatOfTheTable(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(string(want), string(got)); difference != "" {
		t.Errorf("run go test ./functions/jobconfig -run Schema -update (-want +got):\n%s", difference)
	}
}

// actionWith and taskWith are files with something in an action, and in a task.
func actionWith(something string) string { return "apiVersion: v2\nactions: [{" + something + "}]" }

func taskWith(something string) string {
	return actionWith("name: a, tasks: [{image: i, " + something + "}]")
}

// place is where a key with a value may stand.
type place struct {
	file string
	keys []string
}

func places() []place {
	const node = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{KEY: VALUE}]}}}"
	const pod = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{KEY: VALUE}]}}"
	keys := func(names string) []string { return strings.Fields(names) }
	return []place{
		{"KEY: VALUE", keys("apiVersion actions other x-other")},
		{"apiVersion: v2\nKEY: VALUE", keys("actions other x-other")},
		{actionWith("KEY: VALUE"), keys("name silent parallel event events tasks image retries other x-other")},
		{actionWith("event: a, KEY: VALUE"), keys("events tasks image cmd")},
		{actionWith("image: i, KEY: VALUE"), keys("tasks cmd retries env other")},
		{actionWith("events: [{KEY: VALUE}]"), keys("name jsonpath other")},
		{actionWith("events: [{jsonpath: {KEY: VALUE}}]"), keys("property match other")},
		{actionWith("name: a, tasks: [{KEY: VALUE}]"), keys("image name")},
		{taskWith("KEY: VALUE"), keys(
			"name files imagePullPolicy cmd args workingDir env resources " +
				"maxPollDuration namespace ttlSecondsAfterFinished securityContext serviceAccount annotations labels imagePullSecrets " +
				"nodeSelector tolerations affinity volumes retries volumeSize other x-other",
		)},
		{taskWith("env: [{KEY: VALUE}]"), keys("name value")},
		{taskWith("env: [{name: A, KEY: VALUE}]"), keys("valueFrom secretKeyRef configMapKeyRef as")},
		{taskWith("env: [{name: a, valueFrom: string, KEY: VALUE}]"), keys("value secretKeyRef as other")},
		{taskWith("env: [{name: a, valueFrom: event, KEY: VALUE}]"), keys("value as")},
		{taskWith("env: [{valueFrom: secret, KEY: VALUE}]"), keys("name value")},
		{taskWith("env: [{valueFrom: string, KEY: VALUE}]"), keys("name")},
		{taskWith("env: [{name: A, secretKeyRef: {key: a, KEY: VALUE}}]"), keys("name other")},
		{taskWith("env: [{name: A, configMapKeyRef: {name: a, KEY: VALUE}}]"), keys("key x-other")},
		{taskWith("resources: {KEY: VALUE}"), keys("limits requests other")},
		{taskWith("resources: {limits: {KEY: VALUE}}"), keys("cpu memory other")},
		{taskWith("securityContext: {KEY: VALUE}"), keys(
			"capabilities privileged runAsUser runAsGroup runAsNonRoot " +
				"readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile other",
		)},
		{taskWith("securityContext: {runAsUser: 0, KEY: VALUE}"), keys("runAsNonRoot")},
		{taskWith("securityContext: {privileged: yes, KEY: VALUE}"), keys("allowPrivilegeEscalation")},
		{taskWith("securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}, KEY: VALUE}"), keys("allowPrivilegeEscalation")},
		{taskWith("securityContext: {capabilities: {KEY: VALUE}}"), keys("add drop")},
		{taskWith("securityContext: {seccompProfile: {type: Localhost, KEY: VALUE}}"), keys("localhostProfile")},
		{taskWith("securityContext: {seccompProfile: {type: Unconfined, KEY: VALUE}}"), keys("localhostProfile")},
		{taskWith("volumes: [{claim: a, KEY: VALUE}]"), keys("mountPath")},
		{taskWith("volumes: [{claim: a, mountPath: /a, KEY: VALUE}]"), keys("subPath readOnly other")},
		{taskWith("tolerations: [{KEY: VALUE}]"), keys("key Key operator")},
		{taskWith("tolerations: [{key: a, KEY: VALUE}]"), keys("operator value effect tolerationSeconds other")},
		{taskWith("tolerations: [{operator: Exists, KEY: VALUE}]"), keys("value effect tolerationSeconds")},
		{taskWith("affinity: {KEY: VALUE}"), keys("nodeAffinity NodeAffinity podAffinity podAntiAffinity other")},
		{taskWith("affinity: {nodeAffinity: {KEY: VALUE}}"), keys(
			"requiredDuringSchedulingIgnoredDuringExecution " +
				"preferredDuringSchedulingIgnoredDuringExecution other",
		)},
		{taskWith(node), keys("matchExpressions other")},
		{taskWith(pod), keys("topologyKey labelSelector other")},
		{taskWith(strings.Replace(pod, "KEY", "topologyKey: a, KEY", 1)), keys("namespaces matchLabelKeys mismatchLabelKeys namespaceSelector")},
	}
}

// values are the allowed values.
var values = []string{
	"null", "~", "true", "yes", "On", "y", "NO", "off", "1", "0", "-1", "60", "1.5", "1_000", "0x10", "1e3", "5000000000", ".inf", `""`,
	`" "`, "a", "A", "A B", "a.b", "a_b", `"1"`, `"true"`, "-a", "a/b", "a/B", "a:b", "a:b:c", "/a", "/keptn", "/./keptn/.", "/keptn/a", "//",
	"/a/../b", "a/../b", "../a", `"~"`, "ä", `"a\tb"`, "a=b", "v1", "v2", "$.data", `" $.data "`, "$.", "$.a[", "data.a", "*", "(", "a+",
	"Always", "always", "event", "secret", "string", "JSON", "Yaml", "xml", "Default", "Unmasked", "Localhost", "Exists", "Equal",
	"NoExecute", "500m", "1Gi", "1GB", "+1", "-1Mi", "1e3Mi", "[]", "[null]", "[a]", "[A]", "[1]", "[true]", "[[a]]", "[{}]", "[{x-a: 1}]",
	"{}", "{x-a: 1}", "{a: b}", "{a: 1}", "{a: -1}", "{a: null}", "{a: [b]}", "{a: A B}", "{A/b: c}", "{keptn.sh/a: b}",
	"{job-executor.github.io/a: b}", "{-a: b}", "{name: a}", "{name: null}", "{name: 1}", "{name: -1}", "{name: A}", "{name: a, key: b}",
	"{name: a, key: 1}", "{name: a, key: ..b}", "{name: a, key: a b}", "{Key: a}", "{key: a}", "[{key: a}]", "[{operator: Exists}]",
	"[{image: i}]", "[{image: 1}]", "[{name: a}]", "[{name: A, valueFrom: string}]", "[{a: b}, {c: d}]", "[{a: b}, null]", "{cpu: 1}",
	"{cpu: -1}", "{cpu: a}", "{add: [a]}", "{add: a}", "{type: Localhost}", "{type: RuntimeDefault}",
	"{type: Localhost, localhostProfile: a}", "{type: Unconfined, localhostProfile: a}", "{type: Unconfined, localhostProfile: null}",
	"[{claim: a, mountPath: /a}]", "[{claim: 1, mountPath: /a}]", "[{claim: A, mountPath: /a}]", "{limits: {cpu: 1}}",
	"{nodeSelectorTerms: []}", "{nodeSelectorTerms: [{}]}", "[{weight: 1}]", "[{weight: 0}]", "[{weight: 1, preference: {}}]",
	"[{weight: 1, podAffinityTerm: {topologyKey: a}}]", "[{key: a, operator: In}]", "[{key: a, operator: In, values: [b]}]",
	"[{key: a, operator: Exists}]", "[{key: a, operator: Exists, values: [b]}]", "[{key: a, operator: Gt, values: [b, c]}]",
	"[{key: a, operator: is}]", "[{key: 1, operator: Exists}]", "{matchLabels: {a: b}}", "{matchLabels: {a: 1}}",
}

// beyond returns the rules of the parser that a file breaks and no schema can express.
func beyond(file string, parser Mistakes) string {
	said := fmt.Sprint(parser)
	switch {
	case strings.Contains(said, "is not a regular expression"):
		return "regular expressions"
	case strings.Contains(said, "JSONPath"):
		return "the grammar of JSONPaths"
	case slices.ContainsFunc([]string{"matchLabels", "atchLabelKeys", "namespaces"}, func(key string) bool { return strings.Contains(file, key) }):
		return "names in selectors"
	case slices.ContainsFunc([]string{": 1_000}", ": 0x10}", ": +1}", ": 1e3}"}, func(number string) bool { return strings.Contains(file, number) }):
		return "how a number is written"
	default:
		return ""
	}
}

// Parser and schema say the same of every value in every place.
func TestSchemaAndParserAgree(t *testing.T) {
	compiled, err := jsonschema.NewCompiler().Compile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	count, rules := 0, map[string]int{}
	for _, place := range places() {
		for _, key := range place.keys {
			for _, value := range values {
				file := strings.ReplaceAll(strings.ReplaceAll(place.file, "KEY", key), "VALUE", value)
				found, isYAML := fixture.Instance([]byte(file))
				if !isYAML {
					continue
				}
				count++
				mistakes := Parse([]byte(file)).All()
				wrong := compiled.Validate(found)
				switch rule := beyond(file, mistakes); {
				case (len(mistakes) == 0) == (wrong == nil):
				case rule != "" && wrong == nil:
					rules[rule]++
				default:
					t.Errorf("%s\nthe parser: %v\nthe schema: %v", file, mistakes, wrong)
				}
			}
		}
	}
	t.Logf("%d files; what the schema cannot say: %v", count, rules)
}
