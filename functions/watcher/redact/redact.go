package redact

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Reader reads Secrets.
type Reader interface {
	// Secret returns nil if the Secret does not exist, or may not be read.
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

const (
	// replacement stands for each value.
	replacement = "***"
	// maxPatternBytes bounds the values of one Job in all their forms, and so the memory of a
	// Redactor: 24 bytes for each. A container could not start with many more.
	maxPatternBytes = 1 << 20
)

// Redactor redacts the Secrets of one Job. It is not safe for concurrent use.
type Redactor struct {
	// Withheld says why the values of the Job's Secrets are not known, as part of a sentence;
	// empty if they are. Then nothing may be published that the task wrote.
	Withheld string

	matcher matcher
	// sources name the keys of the values, and found is true for those that were redacted.
	sources []string
	found   []bool
}

// New returns a Redactor for the Secrets that a Job's containers have as environment variables.
// Started is when the first of them started: it has other values than a Secret that was changed
// or deleted since. The error is that a Secret cannot be read at the moment.
func New(ctx context.Context, reader Reader, job *batchv1.Job, started time.Time) (*Redactor, error) {
	redactor := &Redactor{}
	keys := keysOf(job)
	size := 0
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		secret, err := reader.Secret(ctx, job.Namespace, name)
		if err != nil {
			return nil, err
		}
		switch {
		case secret == nil:
			return &Redactor{Withheld: fmt.Sprintf("Secret %s was deleted while the task ran, or cannot be read", name)}, nil
		case secret.CreationTimestamp.After(started), updatedAt(secret).Add(clockSkew).After(started):
			return &Redactor{Withheld: fmt.Sprintf("Secret %s was changed while the task ran", name)}, nil
		}
		for _, key := range keys[name] {
			// Nothing in a Secret's metadata dates the removal of a key.
			if _, ok := secret.Data[key]; !ok {
				return &Redactor{Withheld: fmt.Sprintf("key %s of Secret %s was removed while the task ran", key, name)}, nil
			}
		}
		for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
			if keys[name] != nil && !slices.Contains(keys[name], key) {
				continue
			}
			for _, form := range forms(string(secret.Data[key])) {
				if size += len(form); size > maxPatternBytes {
					return &Redactor{Withheld: fmt.Sprintf("the values of Secret %s are too large to be redacted", name)}, nil
				}
				redactor.matcher.add(form, len(redactor.sources))
			}
			redactor.sources = append(redactor.sources, key+" of Secret "+name)
		}
	}
	redactor.found = make([]bool, len(redactor.sources))
	redactor.matcher.link()
	return redactor, nil
}

// keysOf returns the keys of each Secret that a Job's containers have; nil is all of them.
func keysOf(job *batchv1.Job) map[string][]string {
	keys := map[string][]string{}
	for _, container := range job.Spec.Template.Spec.Containers {
		for _, source := range container.EnvFrom {
			if source.SecretRef != nil {
				keys[source.SecretRef.Name] = nil
			}
		}
		for _, variable := range container.Env {
			if variable.ValueFrom == nil || variable.ValueFrom.SecretKeyRef == nil {
				continue
			}
			ref := variable.ValueFrom.SecretKeyRef
			if before, known := keys[ref.Name]; !known || before != nil {
				keys[ref.Name] = append(before, ref.Key)
			}
		}
	}
	return keys
}

// UsesSecrets reports whether a Job's containers have Secrets as environment variables.
func UsesSecrets(job *batchv1.Job) bool { return len(keysOf(job)) > 0 }

// clockSkew is the allowed difference between the clocks of the API server and of a node, which both
// write whole seconds. An update shortly before the start of a task therefore counts as one during
// it. A task cannot start before its Secrets exist, so their creation needs no margin.
const clockSkew = 2 * time.Second

// updatedAt returns when the data of a Secret was last changed, as the API server notes it.
func updatedAt(secret *corev1.Secret) (changed time.Time) {
	for _, entry := range secret.ManagedFields {
		if entry.Time != nil && entry.Time.After(changed) && entry.FieldsV1 != nil && strings.Contains(string(entry.FieldsV1.Raw), `"f:data"`) {
			changed = entry.Time.Time
		}
	}
	if !changed.After(secret.CreationTimestamp.Time) {
		return time.Time{}
	}
	return changed
}

// Text cleans a text and redacts it.
func (r *Redactor) Text(text string) string { return r.values(Clean(text)) }

func (r *Redactor) values(text string) string {
	var redacted strings.Builder
	w := &writer{redactor: r, to: &redacted}
	_, _ = w.Write([]byte(text)) // a strings.Builder never fails
	_ = w.Close()
	return redacted.String()
}

// Through returns a writer that cleans and redacts its input, in writes of any size. Close writes the rest, and
// does not close the underlying writer.
func (r *Redactor) Through(to io.Writer) io.WriteCloser {
	values := &writer{redactor: r, to: to}
	return &pipe{cleaner{to: values}, values}
}

type pipe struct {
	cleaner cleaner
	values  *writer
}

func (p *pipe) Write(content []byte) (int, error) { return p.cleaner.Write(content) }

func (p *pipe) Close() error {
	if err := p.cleaner.Close(); err != nil {
		return err
	}
	return p.values.Close()
}

// Found returns the keys whose values were redacted so far, such as "TOKEN of Secret cluster".
func (r *Redactor) Found() []string { return r.namesOf(r.found) }

func (r *Redactor) namesOf(found []bool) (names []string) {
	for index, source := range r.sources {
		if found[index] {
			names = append(names, source)
		}
	}
	return names
}

// member redacts one text of a JSON value, and returns the keys of the found values.
func (r *Redactor) member(text string) (redacted string, names []string) {
	before := r.found
	r.found = make([]bool, len(before))
	redacted = r.values(text)
	names = r.namesOf(r.found)
	for index := range before {
		r.found[index] = r.found[index] || before[index]
	}
	return redacted, names
}

// Value redacts all texts and numbers of a JSON value. For each change, it calls changed with the
// path and with the keys whose values were redacted.
func (r *Redactor) Value(path string, value any, changed func(path string, keys []string)) any {
	switch value := value.(type) {
	case string:
		return r.leaf(path, value, value, changed)
	case json.Number:
		return r.leaf(path, value, value.String(), changed)
	case map[string]any:
		redacted := make(map[string]any, len(value))
		for _, name := range slices.Sorted(maps.Keys(value)) {
			member := name
			if redactedName, keys := r.member(name); redactedName != name {
				member = redactedName
				changed(strings.TrimPrefix(path+"."+member, "."), keys)
			}
			redacted[member] = r.Value(strings.TrimPrefix(path+"."+member, "."), value[name], changed)
		}
		return redacted
	case []any:
		redacted := make([]any, 0, len(value))
		for index, item := range value {
			redacted = append(redacted, r.Value(fmt.Sprintf("%s[%d]", path, index), item, changed))
		}
		return redacted
	default:
		return value
	}
}

func (r *Redactor) leaf(path string, value any, text string, changed func(path string, keys []string)) any {
	redacted, keys := r.member(text)
	if redacted == text {
		return value
	}
	changed(path, keys)
	return redacted
}

// span is a part of a text, from its first byte until before its last.
type span struct{ from, until int }

// writer redacts its input. It holds back only a possible beginning of a value.
type writer struct {
	redactor *Redactor
	to       io.Writer

	state int32
	// held are the bytes from position base on that were not written yet.
	held []byte
	base int
	// covered are the found values, in their order. No two overlap or touch.
	covered []span
	// redacting is true if the last written byte was part of a value.
	redacting bool
}

// Write returns the error of the underlying writer.
func (w *writer) Write(content []byte) (int, error) {
	m := &w.redactor.matcher
	if len(m.nodes) == 0 {
		return w.to.Write(content)
	}
	for _, char := range content {
		w.held = append(w.held, char)
		w.state = m.step(w.state, char)
		if node := m.nodes[w.state]; node.match > 0 {
			w.redactor.found[node.of] = true
			w.cover(w.base + len(w.held) - int(node.match))
		}
	}
	return len(content), w.flush(w.base + len(w.held) - int(m.nodes[w.state].depth))
}

// cover adds a value that ends with the last byte.
func (w *writer) cover(from int) {
	for len(w.covered) > 0 && w.covered[len(w.covered)-1].until >= from {
		from = min(from, w.covered[len(w.covered)-1].from)
		w.covered = w.covered[:len(w.covered)-1]
	}
	w.covered = append(w.covered, span{from, w.base + len(w.held)})
}

// Close writes the rest. It does not close the underlying writer.
func (w *writer) Close() error { return w.flush(w.base + len(w.held)) }

// flush writes everything before a position.
func (w *writer) flush(until int) error {
	var redacted []byte
	for position := w.base; position < until; {
		next := span{until, until}
		if len(w.covered) > 0 {
			next = w.covered[0]
		}
		if position < next.from {
			end := min(next.from, until)
			redacted = append(redacted, w.held[position-w.base:end-w.base]...)
			position, w.redacting = end, false
			continue
		}
		if !w.redacting {
			redacted = append(redacted, replacement...)
		}
		position, w.redacting = min(next.until, until), true
		if next.until <= until {
			w.covered = w.covered[1:]
		}
	}
	if until > w.base {
		w.held = append(w.held[:0], w.held[until-w.base:]...)
		w.base = until
	}
	if len(redacted) == 0 {
		return nil
	}
	_, err := w.to.Write(redacted)
	return err
}
