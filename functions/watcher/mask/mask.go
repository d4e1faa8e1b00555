package mask

import (
	"cmp"
	"context"
	"io"
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
type Mask struct {
	// values are the longest first.
	values   []string
	replacer *strings.Replacer
}

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
	return Mask{values, strings.NewReplacer(pairs...)}, nil
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

// Through returns a writer to another one, which gets what is written without the values,
// wherever a write ends in one of them: so what is cut later is cut without them. Close
// writes the rest; it does not close the other one.
func (mask Mask) Through(to io.Writer) io.WriteCloser { return &masking{mask: mask, to: to} }

type masking struct {
	mask Mask
	to   io.Writer
	// held is what may be the beginning of a value.
	held string
}

// Write returns the error of the other writer.
func (masking *masking) Write(content []byte) (int, error) {
	masking.held += string(content)
	return len(content), masking.flush(masking.mask.boundary(masking.held))
}

// Close returns the error of the other writer.
func (masking *masking) Close() error { return masking.flush(len(masking.held)) }

func (masking *masking) flush(length int) error {
	if length == 0 {
		return nil
	}
	text := masking.mask.Text(masking.held[:length])
	masking.held = masking.held[length:]
	_, err := io.WriteString(masking.to, text)
	return err
}

// boundary is how much of a text is certain to end in the midst of no value, whatever
// follows.
func (mask Mask) boundary(text string) int {
	if len(mask.values) == 0 {
		return len(text)
	}
	end := max(0, len(text)-len(mask.values[0])+1)
	for before := -1; before != end; {
		before = end
		for _, value := range mask.values {
			from := max(0, end-len(value)+1)
			if at := strings.Index(text[from:min(len(text), end+len(value)-1)], value); at >= 0 {
				end = from + at
			}
		}
	}
	return end
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
