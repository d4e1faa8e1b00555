package plan

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// trace returns the variables with which OpenTelemetry's libraries add their spans below those of the Job
// (OpenTelemetry specification, environment variables as context propagation carriers). A task may override
// them.
func (p Plan) trace(spec *corev1.PodSpec, task jobconfig.Task, namespace, name string) {
	within := corev1.EnvVar{Name: "TRACEPARENT", Value: fmt.Sprintf("00-%s-%s-01", telemetry.TraceID(p.Task.Context), telemetry.JobSpanID(namespace, name))}
	var baggage []string
	for _, member := range [][2]string{
		{"keptn.context", p.Task.Context}, {"keptn.project", p.Task.Project}, {"keptn.stage", p.Task.Stage},
		{"keptn.service", p.Task.Service}, {"keptn.task", p.Task.Name},
	} {
		baggage = append(baggage, member[0]+"="+url.PathEscape(member[1]))
	}
	members := literal(strings.Join(baggage, ","))
	resource := members
	for _, host := range telemetry.Host() {
		resource += "," + string(host.Key) + "=" + host.Value.AsString()
	}
	environment := []corev1.EnvVar{
		within, {Name: "TRACESTATE"}, {Name: "BAGGAGE", Value: members}, {Name: "OTEL_SERVICE_NAME", Value: literal(task.Name)},
		{Name: "OTEL_RESOURCE_ATTRIBUTES", Value: resource + ",k8s.namespace.name=" + namespace + ",k8s.job.name=" + name},
	}
	if p.TaskOTLPEndpoint != "" {
		environment = append(environment, corev1.EnvVar{Name: "OTEL_EXPORTER_OTLP_ENDPOINT", Value: p.TaskOTLPEndpoint})
	}
	for index := range spec.Containers {
		spec.Containers[index].Env = slices.Concat(environment, spec.Containers[index].Env)
	}
	for index := range spec.InitContainers {
		fetching := []corev1.EnvVar{within}
		if p.TaskOTLPEndpoint != "" {
			fetching = append(fetching, corev1.EnvVar{Name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Value: strings.TrimSuffix(p.TaskOTLPEndpoint, "/") + "/v1/traces"})
		}
		spec.InitContainers[index].Env = append(spec.InitContainers[index].Env, fetching...)
	}
}
