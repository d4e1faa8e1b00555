package plan

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/job-executor/job-executor/functions/allowlist"
	"github.com/job-executor/job-executor/functions/run/store"
)

// Rules are what the installation allows, and what applies where a task says nothing. Their defaults are those of
// the job-executor-service's chart.
type Rules struct {
	store.Settings
	// ServiceAccount is the default service account of Jobs.
	ServiceAccount string `env:"JOB_SERVICE_ACCOUNT" envDefault:"job-executor-job"`
	// AllowedImages are glob patterns; an empty list allows every image.
	AllowedImages []string `env:"ALLOWED_IMAGES"`
	// AllowedSecrets and AllowedServiceAccounts are glob patterns of names that tasks may reference, besides
	// objects with the AllowedLabel.
	AllowedSecrets         []string `env:"ALLOWED_SECRETS"`
	AllowedServiceAccounts []string `env:"ALLOWED_SERVICE_ACCOUNTS"`
	// AllowedLabel selects the Secrets and service accounts that tasks may reference.
	AllowedLabel allowlist.Selector `env:"ALLOWED_LABEL" envDefault:"job-executor.github.io/allowed=true"`
	// ProjectNamespaces are the namespaces of a project's Jobs by project, joined by +. The first is the
	// default. Other projects have the namespaces that belong to no project.
	ProjectNamespaces map[string]string `env:"PROJECT_NAMESPACES" envKeyValSeparator:"="`
	// MaxActiveRuns is how many runs of a project may be active at a time; 0 for no limit.
	MaxActiveRuns int `env:"MAX_ACTIVE_RUNS_PER_PROJECT" envDefault:"0"`
	// TaskDeadlineSeconds bounds the duration of every task; 0 for the task's own limit.
	TaskDeadlineSeconds int64 `env:"TASK_DEADLINE_SECONDS" envDefault:"0"`
	// TerminationGraceSeconds is how long a container may take to stop after its deadline.
	TerminationGraceSeconds int64 `env:"JOB_TERMINATION_GRACE_SECONDS" envDefault:"5"`
	// VolumeSize limits the volume at /keptn.
	VolumeSize Quantity `env:"JOB_VOLUME_SIZE" envDefault:"20Mi"`
	// MaxVolumeSize bounds the size that a task may set.
	MaxVolumeSize Quantity `env:"MAX_JOB_VOLUME_SIZE" envDefault:"1Gi"`
	// TemporarySize limits the volume at /tmp.
	TemporarySize Quantity `env:"JOB_TMP_SIZE" envDefault:"100Mi"`
	// JobLabels are labels of every Job and its pods.
	JobLabels map[string]string `env:"JOB_LABELS" envKeyValSeparator:"="`

	LimitCPU      Quantity `env:"DEFAULT_RESOURCE_LIMITS_CPU" envDefault:"1"`
	LimitMemory   Quantity `env:"DEFAULT_RESOURCE_LIMITS_MEMORY" envDefault:"512Mi"`
	RequestCPU    Quantity `env:"DEFAULT_RESOURCE_REQUESTS_CPU" envDefault:"50m"`
	RequestMemory Quantity `env:"DEFAULT_RESOURCE_REQUESTS_MEMORY" envDefault:"128Mi"`

	// TaskOTLPEndpoint receives the spans of tasks' containers by OTLP over HTTP; empty for none.
	TaskOTLPEndpoint string `env:"TASK_OTLP_ENDPOINT"`

	// FetcherImage is the image of the init container.
	FetcherImage string `env:"FETCHER_IMAGE,notEmpty"`
	// BridgeURL is the bridge's address for the init container.
	BridgeURL string `env:"BRIDGE_URL,notEmpty"`
}

// NamespacesOf returns the namespaces of a project's Jobs. The first is the default.
func (r Rules) NamespacesOf(project string) []string {
	var others []string // namespaces of other projects
	for name, namespaces := range r.ProjectNamespaces {
		if name == project {
			return strings.Split(namespaces, "+")
		}
		others = append(others, strings.Split(namespaces, "+")...)
	}
	return slices.DeleteFunc(slices.Clone(r.Namespaces), func(namespace string) bool { return slices.Contains(others, namespace) })
}

// Validate rejects settings that would make every Job fail: invalid labels and patterns, and namespaces without
// Jobs.
func (r Rules) Validate() error {
	for variable, patterns := range map[string][]string{
		"ALLOWED_IMAGES": r.AllowedImages, "ALLOWED_SECRETS": r.AllowedSecrets, "ALLOWED_SERVICE_ACCOUNTS": r.AllowedServiceAccounts,
	} {
		if _, err := allowlist.Name(patterns, ""); err != nil {
			return fmt.Errorf("environment variable %s: %w", variable, err)
		}
	}
	for project := range r.ProjectNamespaces {
		if !projectName.MatchString(project) {
			return fmt.Errorf("environment variable PROJECT_NAMESPACES: invalid project name %q: use lower-case letters, digits and -", project)
		}
		for _, namespace := range r.NamespacesOf(project) {
			if !slices.Contains(r.Namespaces, namespace) {
				return fmt.Errorf("environment variable PROJECT_NAMESPACES: %s of project %s is not one of JOB_NAMESPACES", namespace, project)
			}
		}
	}
	if len(r.ProjectNamespaces) > 0 && len(r.NamespacesOf("")) == 0 {
		return errors.New("environment variable PROJECT_NAMESPACES: no namespace is left for projects that are not listed")
	}
	for name, value := range r.JobLabels {
		if wrong := append(validation.IsQualifiedName(name), validation.IsValidLabelValue(value)...); len(wrong) > 0 {
			return fmt.Errorf("environment variable JOB_LABELS: invalid label %s=%s: %s", name, value, strings.Join(wrong, "; "))
		}
	}
	return nil
}

// projectName matches Keptn's names of projects.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Quantity is a Kubernetes quantity in an environment variable.
type Quantity struct{ resource.Quantity }

// UnmarshalText parses a quantity.
func (q *Quantity) UnmarshalText(text []byte) error {
	parsed, err := resource.ParseQuantity(string(text))
	q.Quantity = parsed
	return err
}
