package mask

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Reader reads Secrets. It returns false if there is none of the name, or if it may not be
// read.
type Reader interface {
	Secret(ctx context.Context, namespace, name string) (data map[string][]byte, found bool, err error)
}

const (
	// hidden stands for each value.
	hidden = "***"
	// minBytes is how long a value is at least that is hidden: shorter ones stand in
	// ordinary text.
	minBytes = 6
)

// Mask hides values. Its zero value hides none.
type Mask struct{ replacer *strings.Replacer }

// Of returns the mask for all that a Job's container has of Secrets. Its error is that one
// could not be read for now.
func Of(ctx context.Context, reader Reader, job *batchv1.Job) (Mask, error) {
	keys := map[string][]string{} // by Secret; no key is all of them
	for _, container := range job.Spec.Template.Spec.Containers {
		for _, source := range container.EnvFrom {
			if source.SecretRef != nil {
				keys[source.SecretRef.Name] = nil
			}
		}
		for _, variable := range container.Env {
			ref := secretOf(variable)
			if ref == nil {
				continue
			}
			if before, known := keys[ref.Name]; !known || before != nil {
				keys[ref.Name] = append(before, ref.Key)
			}
		}
	}
	var values []string
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		data, found, err := reader.Secret(ctx, job.Namespace, name)
		if err != nil {
			return Mask{}, err
		}
		for key, value := range data {
			if found && (keys[name] == nil || slices.Contains(keys[name], key)) {
				values = append(values, partsOf(string(value))...)
			}
		}
	}
	if len(values) == 0 {
		return Mask{}, nil
	}
	// A value that contains another one is hidden as a whole.
	slices.SortFunc(values, func(one, other string) int { return cmp.Or(cmp.Compare(len(other), len(one)), cmp.Compare(one, other)) })
	var pairs []string
	for _, value := range values {
		pairs = append(pairs, value, hidden)
	}
	return Mask{strings.NewReplacer(pairs...)}, nil
}

func secretOf(variable corev1.EnvVar) *corev1.SecretKeySelector {
	if variable.ValueFrom == nil {
		return nil
	}
	return variable.ValueFrom.SecretKeyRef
}

// partsOf are a value, and each of its lines, since a program may print it with others
// between them.
func partsOf(value string) (parts []string) {
	for _, part := range append([]string{value}, strings.Split(value, "\n")...) {
		if part = strings.TrimSpace(part); len(part) >= minBytes {
			parts = append(parts, part)
		}
	}
	return parts
}

// Text is a text without the values.
func (mask Mask) Text(text string) string {
	if mask.replacer == nil {
		return text
	}
	return mask.replacer.Replace(text)
}

// Value is a value of JSON without them, its keys and all texts in it.
func (mask Mask) Value(value any) any {
	switch value := value.(type) {
	case string:
		return mask.Text(value)
	case map[string]any:
		made := make(map[string]any, len(value))
		for name, member := range value {
			made[mask.Text(name)] = mask.Value(member)
		}
		return made
	case []any:
		made := make([]any, 0, len(value))
		for _, item := range value {
			made = append(made, mask.Value(item))
		}
		return made
	default:
		return value
	}
}
