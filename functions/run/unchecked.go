package run

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
)

// Unchecked lists objects that a Job references and an earlier task may still create. The watcher checks them
// before the start of the Job.
type Unchecked struct {
	// Secrets and ServiceAccount are names in the Job's namespace.
	Secrets        []string `json:"secrets,omitempty"`
	ServiceAccount string   `json:"serviceAccount,omitempty"`
	// Label selects the objects that tasks may reference.
	Label string `json:"label,omitempty"`
}

// IsNothing reports whether there is nothing to check.
func (u Unchecked) IsNothing() bool { return len(u.Secrets) == 0 && u.ServiceAccount == "" }

// UncheckedOf returns what must be checked before a Job starts.
func UncheckedOf(job *batchv1.Job) (unchecked Unchecked, err error) {
	text, given := job.Annotations[UncheckedAnnotation]
	if !given {
		return Unchecked{}, nil
	}
	if err := json.Unmarshal([]byte(text), &unchecked); err != nil {
		return Unchecked{}, fmt.Errorf("its annotation %s cannot be read: %w", UncheckedAnnotation, err)
	}
	return unchecked, nil
}

// NotAllowed returns a message that an object is missing or forbidden, and the remedy. The message does not
// reveal which of the two is true. Label selects the allowed objects, empty if no selector is configured.
func NotAllowed(kind, resource, namespace, name, label string) string {
	text := fmt.Sprintf("%s %s does not exist in namespace %q, or tasks may not use it", kind, name, namespace)
	if label == "" {
		return text + "; create it, or list it in the settings of the installation"
	}
	return fmt.Sprintf("%s; create it, and allow it with kubectl label %s %s --namespace %s %s", text, resource, name, namespace, label)
}
