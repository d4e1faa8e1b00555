package jobconfig

import (
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	// Path is the path of the configuration in a project's repository.
	Path = "job/config.yaml"
	// APIVersion is the only version of the format.
	APIVersion = "v2"
	// MaxBytes is the size limit of a configuration.
	MaxBytes = 256 << 10
)

// Config is a job/config.yaml as far as it could be parsed. The fields and their meaning are those of the
// job-executor-service (its docs/FEATURES.md and pkg/config/config.go).
type Config struct {
	Actions []Action
	// Hash is the hexadecimal SHA3-224 of the file's bytes. It is a label of every Job.
	Hash string
	// Mistakes are the mistakes outside of actions. A file that cannot be parsed has no actions.
	Mistakes Mistakes
	// Warnings are things that work but are probably not intended.
	Warnings Mistakes

	text string
}

// Action runs its tasks for its events, one after the other or in parallel.
type Action struct {
	Name   string
	Events []Event
	Tasks  []Task
	// Silent suppresses the started and finished events.
	Silent bool
	// Parallel runs all tasks at the same time. (Extension.)
	Parallel bool
	// Mistakes are the action's mistakes.
	Mistakes Mistakes

	// unread is true if some of its events could not be parsed.
	unread bool
}

// Event selects events by type and, if JSONPath has a property, by one value.
type Event struct {
	// Name is a regular expression that matches anywhere in the type.
	Name     string
	JSONPath JSONPath

	pattern *regexp.Regexp
}

// JSONPath selects a value of the event and has the required result.
type JSONPath struct {
	Property string
	Match    string
}

// Task is one container.
type Task struct {
	Name                    string
	Files                   []string
	Image                   string
	ImagePullPolicy         string
	Cmd                     []string
	Args                    []string
	WorkingDir              string
	Env                     []Env
	Resources               *Resources
	MaxPollDuration         *int64
	Namespace               string
	TTLSecondsAfterFinished *int32
	SecurityContext         SecurityContext
	ServiceAccount          *string
	Annotations             map[string]string

	// The following fields are extensions of the job-executor-service's format.

	Labels           map[string]string
	ImagePullSecrets []string
	NodeSelector     map[string]string
	Tolerations      []corev1.Toleration
	Affinity         *corev1.Affinity
	Volumes          []Volume
	// Retries is how often a failed task is retried; nil for never.
	Retries *int64
	// VolumeSize is the size limit of the volume at /keptn, a quantity; empty for the installation's default.
	VolumeSize string

	line int
}

// Line returns the line of the task in the file; 0 if unknown.
func (t Task) Line() int { return t.line }

// Volume is an existing PersistentVolumeClaim and where it is mounted. (Extension.)
type Volume struct {
	Claim, MountPath, SubPath string
	ReadOnly                  bool
}

// KeyRef is one key of a Secret or ConfigMap.
type KeyRef struct{ Name, Key string }

// Env is an environment variable. With ValueFrom "secret" it is all keys of a Secret, with SecretKeyRef or
// ConfigMapKeyRef one key. (The latter are extensions.)
type Env struct {
	Name                          string
	Value                         string
	ValueFrom                     string
	As                            string
	SecretKeyRef, ConfigMapKeyRef *KeyRef
}

// The values of Env.ValueFrom.
const (
	ValueFromEvent  = "event"
	ValueFromSecret = "secret"
	ValueFromString = "string"
)

// The values of Env.As in lower case.
const (
	AsString = "string"
	AsJSON   = "json"
	AsYAML   = "yaml"
)

// Resources are the container's limits and requests. They replace all of the installation's defaults.
type Resources struct {
	Limits   ResourceList
	Requests ResourceList
}

// ResourceList has Kubernetes quantities. Empty ones are not set.
type ResourceList struct {
	CPU    string
	Memory string
}

// SecurityContext is the part of a container's security context that a task may set. Other fields keep the
// installation's default.
type SecurityContext struct {
	Capabilities             *Capabilities
	Privileged               *bool
	RunAsUser                *int64
	RunAsGroup               *int64
	RunAsNonRoot             *bool
	ReadOnlyRootFilesystem   *bool
	AllowPrivilegeEscalation *bool
	ProcMount                *string
	SeccompProfile           *SeccompProfile
}

// Capabilities replace the default capabilities as a whole.
type Capabilities struct {
	Add  []string
	Drop []string
}

// SeccompProfile is a container's seccomp profile.
type SeccompProfile struct {
	Type             string
	LocalhostProfile *string
}

// Parse parses a job/config.yaml as far as possible. The configuration has the mistakes.
func Parse(content []byte) *Config {
	hash := sha3.Sum224(content)
	config := &Config{Hash: hex.EncodeToString(hash[:]), text: string(content)}
	if len(content) > MaxBytes {
		config.text = "" // release memory
		config.Mistakes = Mistakes{{Text: fmt.Sprintf("it has %d bytes; the limit is %d", len(content), MaxBytes)}}
		return config
	}
	root, wrong := parseTree(content)
	if wrong != nil {
		config.Mistakes = Mistakes{*wrong}
		return config
	}
	config.read(root)
	return config
}

// All returns all mistakes in the order of the file.
func (c *Config) All() Mistakes {
	all := append(Mistakes{}, c.Mistakes...)
	for _, action := range c.Actions {
		all = append(all, action.Mistakes...)
	}
	return all.sorted()
}

// MistakesOf returns the mistakes that prevent actions: the file's and their own.
func (c *Config) MistakesOf(actions []MatchedAction) Mistakes {
	found := append(Mistakes{}, c.Mistakes...)
	for _, action := range actions {
		found = append(found, action.Mistakes...)
	}
	return found.sorted()
}

// MistakesFor returns the mistakes of the actions that match an event's type. If none match, it returns all
// mistakes of a file that could not be parsed completely and contains the type: the unparsed part may be about
// it.
func (c *Config) MistakesFor(matched []MatchedAction, eventType string) Mistakes {
	if len(matched) > 0 {
		return c.MistakesOf(matched)
	}
	isUnread := len(c.Mistakes) > 0
	for _, action := range c.Actions {
		isUnread = isUnread || action.unread
	}
	if isUnread && strings.Contains(c.text, eventType) {
		return c.All()
	}
	return nil
}
