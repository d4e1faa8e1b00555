package jobconfig

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// Path is where the configuration is in a project's repository.
	Path = "job/config.yaml"
	// APIVersion is the only version of the format there is.
	APIVersion = "v2"
	// MaxBytes is the largest configuration that is parsed.
	MaxBytes = 256 << 10
)

// Config is a whole job/config.yaml. The fields and their meaning are those of
// the job-executor-service (its docs/FEATURES.md and pkg/config/config.go).
type Config struct {
	APIVersion string   `yaml:"apiVersion"`
	Actions    []Action `yaml:"actions"`
	// Hash is the hexadecimal SHA3-224 of the file's bytes, which labels every
	// Job that was made from it.
	Hash string `yaml:"-"`
}

// Action runs its tasks one after the other when one of its events happens.
type Action struct {
	Name   string  `yaml:"name"`
	Events []Event `yaml:"events"`
	Tasks  []Task  `yaml:"tasks"`
	// Silent asks for no started and no finished event.
	Silent bool `yaml:"silent"`
}

// Event selects events by type and, if JSONPath has a property, by one value.
type Event struct {
	// Name is a regular expression that has to match somewhere in the type.
	Name     string   `yaml:"name"`
	JSONPath JSONPath `yaml:"jsonpath"`

	pattern *regexp.Regexp
}

// JSONPath names a value of the event and what it has to be.
type JSONPath struct {
	Property string `yaml:"property"`
	Match    string `yaml:"match"`
}

// Task is one container.
type Task struct {
	Name                    string            `yaml:"name"`
	Files                   []string          `yaml:"files"`
	Image                   string            `yaml:"image"`
	ImagePullPolicy         string            `yaml:"imagePullPolicy"`
	Cmd                     []string          `yaml:"cmd"`
	Args                    []string          `yaml:"args"`
	WorkingDir              string            `yaml:"workingDir"`
	Env                     []Env             `yaml:"env"`
	Resources               *Resources        `yaml:"resources"`
	MaxPollDuration         *int64            `yaml:"maxPollDuration"`
	Namespace               string            `yaml:"namespace"`
	TTLSecondsAfterFinished *int32            `yaml:"ttlSecondsAfterFinished"`
	SecurityContext         SecurityContext   `yaml:"securityContext"`
	ServiceAccount          *string           `yaml:"serviceAccount"`
	Annotations             map[string]string `yaml:"annotations"`
}

// Env is an environment variable, or with ValueFrom "secret" all keys of a Secret.
type Env struct {
	Name      string `yaml:"name"`
	Value     string `yaml:"value"`
	ValueFrom string `yaml:"valueFrom"`
	As        string `yaml:"as"`
}

// The values of Env.ValueFrom.
const (
	ValueFromEvent  = "event"
	ValueFromSecret = "secret"
	ValueFromString = "string"
)

// Resources are the container's limits and requests. Where they are present,
// none of the installation's defaults apply.
type Resources struct {
	Limits   ResourceList `yaml:"limits"`
	Requests ResourceList `yaml:"requests"`
}

// ResourceList holds Kubernetes quantities; an empty one is not set.
type ResourceList struct {
	CPU    string `yaml:"cpu"`
	Memory string `yaml:"memory"`
}

// SecurityContext is the part of a container's security context that a task may
// set. What it leaves out keeps the installation's default.
type SecurityContext struct {
	Capabilities             *Capabilities   `yaml:"capabilities"`
	Privileged               *bool           `yaml:"privileged"`
	RunAsUser                *int64          `yaml:"runAsUser"`
	RunAsGroup               *int64          `yaml:"runAsGroup"`
	RunAsNonRoot             *bool           `yaml:"runAsNonRoot"`
	ReadOnlyRootFilesystem   *bool           `yaml:"readOnlyRootFilesystem"`
	AllowPrivilegeEscalation *bool           `yaml:"allowPrivilegeEscalation"`
	ProcMount                *string         `yaml:"procMount"`
	SeccompProfile           *SeccompProfile `yaml:"seccompProfile"`
}

// Capabilities replace the default's as a whole.
type Capabilities struct {
	Add  []string `yaml:"add"`
	Drop []string `yaml:"drop"`
}

// SeccompProfile is a container's seccomp profile.
type SeccompProfile struct {
	Type             string  `yaml:"type"`
	LocalhostProfile *string `yaml:"localhostProfile"`
}

// Parse reads and validates a job/config.yaml. Its errors are sentences that a
// person who wrote the file can act on; they name the line where YAML knows it.
func Parse(content []byte) (*Config, error) {
	if len(content) > MaxBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are allowed", Path, len(content), MaxBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var config Config
	if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is not valid: %s", Path, readable(err))
	}
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("%s is not valid: %w", Path, err)
	}
	hash := sha3.Sum224(content)
	config.Hash = hex.EncodeToString(hash[:])
	return &config, nil
}

// unknownType matches how the YAML library names our Go types, which say
// nothing to the author of a file.
var unknownType = regexp.MustCompile(`(not found) in type jobconfig\.(\w+)`)

func readable(err error) string {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	message = strings.TrimPrefix(message, "unmarshal errors:\n  ")
	message = strings.ReplaceAll(message, "\n  ", "; ")
	return unknownType.ReplaceAllString(message, "is not a field of ${2}")
}

func (config *Config) validate() error {
	switch config.APIVersion {
	case APIVersion:
	case "":
		return errors.New("apiVersion must be specified")
	default:
		return fmt.Errorf("apiVersion %s is not supported, use %s", config.APIVersion, APIVersion)
	}
	if err := config.checkBounds(); err != nil {
		return err
	}
	size := 0
	for actionIndex := range config.Actions {
		action := &config.Actions[actionIndex]
		for eventIndex := range action.Events {
			event := &action.Events[eventIndex]
			pattern, measured, err := compile(event.Name)
			if err != nil {
				return fmt.Errorf("action %q: event name %q is no regular expression: %w", action.Name, cut(event.Name), err)
			}
			if size += measured; size > maxPatternsSize {
				return fmt.Errorf("action %q: the names of all events together are too large", action.Name)
			}
			event.pattern = pattern
		}
		for _, task := range action.Tasks {
			if err := task.validate(); err != nil {
				return fmt.Errorf("action %q, task %q: %w", action.Name, task.Name, err)
			}
		}
	}
	return nil
}

// cut is the beginning of a text, for a message.
func cut(text string) string {
	const longest = 80
	if len(text) > longest {
		return text[:longest] + "…"
	}
	return text
}

func (task *Task) validate() error {
	if task.Image == "" {
		return errors.New("image must be specified")
	}
	if task.MaxPollDuration != nil && *task.MaxPollDuration <= 0 {
		return fmt.Errorf("maxPollDuration must be a positive number of seconds, not %d", *task.MaxPollDuration)
	}
	switch task.ImagePullPolicy {
	case "", "Always", "IfNotPresent", "Never":
	default:
		return fmt.Errorf("imagePullPolicy %q must be Always, IfNotPresent or Never", task.ImagePullPolicy)
	}
	if profile := task.SecurityContext.SeccompProfile; profile != nil && profile.Type == "" {
		return errors.New("securityContext.seccompProfile needs a type")
	}
	for _, env := range task.Env {
		switch env.ValueFrom {
		case ValueFromEvent, ValueFromSecret, ValueFromString:
		default:
			return fmt.Errorf("could not add env with name %s, unknown valueFrom %s", env.Name, env.ValueFrom)
		}
		if env.Name == "" {
			return fmt.Errorf("env with valueFrom %s needs a name", env.ValueFrom)
		}
	}
	return nil
}
