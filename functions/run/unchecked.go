package run

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
)

// Unchecked is what a Job names that may not exist before its turn comes. The watcher checks it
// then.
type Unchecked struct {
	// Secrets and ServiceAccount are names in the Job's namespace.
	Secrets        []string `json:"secrets,omitempty"`
	ServiceAccount string   `json:"serviceAccount,omitempty"`
	// Label is the selector of what tasks may name.
	Label string `json:"label,omitempty"`
}

// IsNothing reports whether there is nothing to check.
func (u Unchecked) IsNothing() bool { return len(u.Secrets) == 0 && u.ServiceAccount == "" }

// UncheckedOf returns what is to be checked before a Job starts.
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

// NotAllowed says that something that a task names does not exist, or may not be used, and what to
// do. It does not tell which. Label is the selector of what may be used, empty if there is none.
func NotAllowed(kind, resource, namespace, name, label string) string {
	text := fmt.Sprintf("%s %s does not exist in namespace %q, or tasks may not use it", kind, name, namespace)
	if label == "" {
		return text + "; create it, or list it in the settings of the installation"
	}
	return fmt.Sprintf("%s; create it, and allow it with kubectl label %s %s --namespace %s %s", text, resource, name, namespace, label)
}
