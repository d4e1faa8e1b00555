package jobconfig

import (
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

const (
	// Path is where the configuration is in a project's repository.
	Path = "job/config.yaml"
	// APIVersion is the only version of the format there is.
	APIVersion = "v2"
	// MaxBytes is the largest configuration that is parsed.
	MaxBytes = 256 << 10
)

// Config is a whole job/config.yaml, as far as it could be read. The fields and their meaning are those of
// the job-executor-service (its docs/FEATURES.md and pkg/config/config.go).
type Config struct {
	Actions []Action
	// Hash is the hexadecimal SHA3-224 of the file's bytes, which labels every
	// Job that was made from it.
	Hash string
	// Mistakes are what is wrong with the file apart from its actions; where there are
	// any that keep it from being read, it has no actions.
	Mistakes Mistakes
	// Warnings are what works, and is most likely not meant.
	Warnings Mistakes

	text string
}

// Action runs its tasks when one of its events happens: one after the other, or all at the
// same time.
type Action struct {
	Name   string
	Events []Event
	Tasks  []Task
	// Silent asks for no started and no finished event.
	Silent bool
	// Parallel has all tasks run at the same time. (Ours.)
	Parallel bool
	// Mistakes are what is wrong with it.
	Mistakes Mistakes

	// unread says that its events, or some of them, could not be read.
	unread bool
}

// Event selects events by type and, if JSONPath has a property, by one value.
type Event struct {
	// Name is a regular expression that has to match somewhere in the type.
	Name     string
	JSONPath JSONPath

	pattern *regexp.Regexp
}

// JSONPath names a value of the event and what it has to be.
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

	// What follows is ours: the job-executor-service has none of it.

	Labels           map[string]string
	ImagePullSecrets []string
	NodeSelector     map[string]string
	Tolerations      []corev1.Toleration
	Affinity         *corev1.Affinity
	Volumes          []Volume
	// Retries is how often it is tried again when it fails; nil for never.
	Retries *int64
	// VolumeSize limits the volume at /keptn, a quantity; empty for the installation's.
	VolumeSize string

	line int
}

// Line returns where the task begins in the file; 0 if that is not known.
func (t Task) Line() int { return t.line }

// Volume is a PersistentVolumeClaim that there is, in the task's container. (Ours.)
type Volume struct {
	Claim, MountPath, SubPath string
	ReadOnly                  bool
}

// KeyRef is one key of a Secret or ConfigMap.
type KeyRef struct{ Name, Key string }

// Env is an environment variable, or with ValueFrom "secret" all keys of a Secret. One
// key of a Secret or ConfigMap it is by SecretKeyRef or ConfigMapKeyRef. (Those are ours.)
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

// The values of Env.As, in small letters.
const (
	AsString = "string"
	AsJSON   = "json"
	AsYAML   = "yaml"
)

// Resources are the container's limits and requests. Where they are present,
// none of the installation's defaults apply.
type Resources struct {
	Limits   ResourceList
	Requests ResourceList
}

// ResourceList holds Kubernetes quantities; an empty one is not set.
type ResourceList struct {
	CPU    string
	Memory string
}

// SecurityContext is the part of a container's security context that a task may
// set. What it leaves out keeps the installation's default.
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

// Capabilities replace the default's as a whole.
type Capabilities struct {
	Add  []string
	Drop []string
}

// SeccompProfile is a container's seccomp profile.
type SeccompProfile struct {
	Type             string
	LocalhostProfile *string
}

// Parse reads a job/config.yaml as far as it can be read. What is wrong with it is in
// the configuration.
func Parse(content []byte) *Config {
	hash := sha3.Sum224(content)
	config := &Config{Hash: hex.EncodeToString(hash[:]), text: string(content)}
	if len(content) > MaxBytes {
		config.text = "" // of which there may be too much
		config.Mistakes = Mistakes{{Text: fmt.Sprintf("it has %d bytes, more than the %d that are allowed", len(content), MaxBytes)}}
		return config
	}
	root, wrong := reader.Tree(content)
	if wrong != nil {
		config.Mistakes = Mistakes{*wrong}
		return config
	}
	config.read(root)
	return config
}

// All are all mistakes, in the order of the file.
func (c *Config) All() Mistakes {
	all := append(Mistakes{}, c.Mistakes...)
	for _, action := range c.Actions {
		all = append(all, action.Mistakes...)
	}
	return all.sorted()
}

// MistakesOf are those that are in the way of some actions: the file's, and their own.
func (c *Config) MistakesOf(actions []MatchedAction) Mistakes {
	found := append(Mistakes{}, c.Mistakes...)
	for _, action := range actions {
		found = append(found, action.Mistakes...)
	}
	return found.sorted()
}

// MistakesFor are those of the actions that an event of a type matches. If it matches
// none, they are all of a file that can't be read, as a whole or in part, and says the
// type somewhere: what can't be read may be about it.
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
