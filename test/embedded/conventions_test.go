package embedded

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// conventions is the newest version of OpenTelemetry's semantic conventions.
const conventions = "v1.43.0"

// private are the attributes that the conventions lack, with the reason for each.
func private() map[string]string {
	return map[string]string{
		"keptn.context":                 "Keptn's own id, which users search for: cicd.pipeline.run.id has the same value",
		"keptn.project":                 "Keptn's own term; cicd.pipeline.name has the stage, too",
		"keptn.stage":                   "Keptn's own term",
		"keptn.service":                 "the conventions do not name what a pipeline delivers",
		"keptn.task":                    "Keptn's task, also on the spans of Jobs, whose cicd.pipeline.task.name is their own",
		"keptn.sequence":                "Keptn's own term; cicd.pipeline.name has project and stage only",
		"job_executor.action":           "job/config.yaml has actions around its tasks",
		"job_executor.file.level":       "where the file was found: service, stage or project",
		"job_executor.file.bytes":       "the size of job/config.yaml",
		"job_executor.jobs":             "how many Jobs a run has",
		"job_executor.time.approximate": "Kubernetes' times are whole seconds",
		"ip":                            "Jaeger's own: see telemetry.Host",
	}
}

// registry returns all attributes of the conventions, from the source of OpenTelemetry's library.
func registry(t *testing.T) map[string]bool {
	t.Helper()
	directory, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "go.opentelemetry.io/otel/semconv/"+conventions).Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(directory)), "attribute_group.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"error.type": true} // in a file of its own
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if function, ok := call.Fun.(*ast.SelectorExpr); ok && function.Sel.Name == "Key" {
			if literal, ok := call.Args[0].(*ast.BasicLit); ok {
				name, _ := strconv.Unquote(literal.Value)
				known[name] = true
			}
		}
		return true
	})
	if len(known) < 500 {
		t.Fatalf("only %d attributes were found", len(known))
	}
	return known
}

// group is a kind of span in the conventions, with its requirements
// (https://opentelemetry.io/docs/specs/semconv: cicd/cicd-spans, messaging/messaging-spans, cloudevents/cloudevents-spans).
type group struct {
	name string
	is   func(span tracetest.SpanStub) bool
	kind trace.SpanKind
	// required are the attributes of every span; those of a failed span also include error.type.
	required []string
	// values are those that the conventions list for an attribute.
	values map[string][]string
}

func groups() []group {
	results := []string{"success", "failure", "error", "timeout", "cancellation", "skip"}
	messaging := []string{
		"messaging.operation.name", "messaging.operation.type", "messaging.system", "messaging.destination.name", "messaging.message.id",
		"cloudevents.event_id", "cloudevents.event_source", "cloudevents.event_spec_version", "cloudevents.event_type",
	}
	has := func(key string) func(tracetest.SpanStub) bool {
		return func(span tracetest.SpanStub) bool { return valueOf(span, key) != "" }
	}
	return []group{
		{
			name: "pipeline run", is: has("cicd.pipeline.result"), kind: trace.SpanKindServer,
			required: []string{"cicd.pipeline.result", "cicd.pipeline.name", "cicd.pipeline.run.id", "cicd.pipeline.run.url.full", "cicd.pipeline.action.name"},
			values:   map[string][]string{"cicd.pipeline.result": results, "cicd.pipeline.action.name": {"RUN"}},
		},
		{
			name: "pipeline task run", is: has("cicd.pipeline.task.run.result"), kind: trace.SpanKindInternal,
			required: []string{
				"cicd.pipeline.task.name", "cicd.pipeline.task.run.id", "cicd.pipeline.task.run.result", "cicd.pipeline.task.run.url.full",
				"cicd.pipeline.name", "cicd.pipeline.run.id",
			},
			values: map[string][]string{"cicd.pipeline.task.run.result": results, "cicd.pipeline.task.type": {"build", "test", "deploy"}},
		},
		{
			name: "producer", is: func(span tracetest.SpanStub) bool { return strings.HasPrefix(span.Name, "send ") }, kind: trace.SpanKindProducer,
			required: messaging, values: map[string][]string{"messaging.operation.type": {"send"}},
		},
		{
			name: "consumer", is: func(span tracetest.SpanStub) bool { return strings.HasPrefix(span.Name, "process ") }, kind: trace.SpanKindConsumer,
			required: append(messaging, "faas.coldstart"), values: map[string][]string{"messaging.operation.type": {"process"}},
		},
	}
}

func valueOf(span tracetest.SpanStub, key string) string {
	for _, attribute := range span.Attributes {
		if string(attribute.Key) == key {
			return attribute.Value.String()
		}
	}
	return ""
}

// checkConventions holds all spans of our functions to OpenTelemetry's semantic conventions.
func checkConventions(t *testing.T, spans tracetest.SpanStubs) {
	t.Helper()
	known, reasons := registry(t), private()
	used, checked := map[string]bool{}, map[string]int{}
	taskRuns := map[string]string{}
	for _, span := range spans {
		resource := map[string]string{}
		for _, attribute := range span.Resource.Attributes() {
			resource[string(attribute.Key)] = attribute.Value.String()
		}
		if !strings.HasPrefix(resource["service.name"], "job-executor-") {
			continue
		}
		for _, required := range []string{"service.name", "service.namespace", "service.version", "service.instance.id"} {
			if resource[required] == "" {
				t.Errorf("the resource of %s lacks %s", resource["service.name"], required)
			}
		}
		keys := slices.Sorted(maps.Keys(resource))
		for _, attribute := range span.Attributes {
			keys = append(keys, string(attribute.Key))
		}
		for _, key := range keys {
			if used[key] = true; !known[key] && reasons[key] == "" {
				t.Errorf("%s has the attribute %s, which is in no registry", span.Name, key)
			}
		}
		for _, group := range groups() {
			if !group.is(span) {
				continue
			}
			checked[group.name]++
			if span.SpanKind != group.kind {
				t.Errorf("%s, a %s, is of kind %s", span.Name, group.name, span.SpanKind)
			}
			required := group.required
			if span.Status.Code == codes.Error {
				required = append(slices.Clone(required), "error.type")
			} else if valueOf(span, "error.type") != "" {
				t.Errorf("%s has an error.type without an error", span.Name)
			}
			for _, key := range required {
				if valueOf(span, key) == "" {
					t.Errorf("%s, a %s, lacks %s", span.Name, group.name, key)
				}
			}
			for key, values := range group.values {
				if value := valueOf(span, key); value != "" && !slices.Contains(values, value) {
					t.Errorf("%s: %s is %s", span.Name, key, value)
				}
			}
			if id := valueOf(span, "cicd.pipeline.task.run.id"); group.name == "pipeline task run" {
				if other := taskRuns[id]; other != "" {
					t.Errorf("%s and %s share the cicd.pipeline.task.run.id %s", span.Name, other, id)
				}
				taskRuns[id] = span.Name
			}
		}
	}
	for _, group := range groups() {
		if checked[group.name] == 0 {
			t.Errorf("there is no %s", group.name)
		}
	}
	for key := range reasons {
		if known[key] || !used[key] {
			t.Errorf("%s needs no reason: it is in the registry, or unused", key)
		}
	}
}
