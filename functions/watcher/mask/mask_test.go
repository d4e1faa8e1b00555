package mask

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
)

var errDown = errors.New("down")

// secrets are those of a namespace, by their names; that of no data can't be read for now.
type secrets map[string]map[string][]byte

func (secrets secrets) Secret(_ context.Context, namespace, name string) (map[string][]byte, bool, error) {
	data, found := secrets[namespace+"/"+name]
	if found && data == nil {
		return nil, false, errDown
	}
	return data, found, nil
}

func key(secret, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: key, ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key},
	}}
}

func all(secret string) corev1.EnvFromSource {
	return corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}
}

func TestValuesOfSecretsAreHidden(t *testing.T) {
	there := secrets{
		"jobs/one": {"PASSWORD": []byte("correct horse\n"), "OTHER": []byte("staple"), "PIN": []byte("1234")},
		"jobs/two": {"KEY": []byte("-----BEGIN-----\nfirst line\nab\n-----END-----\n"), "LONG": []byte("correct horse battery")},
		"jobs/bad": nil, "others/one": {"PASSWORD": []byte("else where")},
	}
	tests := []struct {
		name       string
		env        []corev1.EnvVar
		envFrom    []corev1.EnvFromSource
		text, want string
		err        error
	}{
		{name: "no Secret", env: []corev1.EnvVar{{Name: "X", Value: "correct horse"}}, text: "correct horse", want: "correct horse"},
		{name: "a key", env: []corev1.EnvVar{key("one", "PASSWORD")}, text: "x=correct horse; staple", want: "x=***; staple"},
		{name: "several keys", env: []corev1.EnvVar{key("one", "PASSWORD"), key("one", "OTHER")}, text: "correct horse, staple", want: "***, ***"},
		{name: "a whole Secret", envFrom: []corev1.EnvFromSource{all("one")}, text: "correct horse, staple", want: "***, ***"},
		{
			name: "a whole Secret, of which a key is named, too", env: []corev1.EnvVar{key("one", "OTHER")}, envFrom: []corev1.EnvFromSource{all("one")},
			text: "correct horse, staple", want: "***, ***",
		},
		{name: "not what is too short", envFrom: []corev1.EnvFromSource{all("one")}, text: "1234", want: "1234"},
		{
			name: "each line", envFrom: []corev1.EnvFromSource{all("two")},
			text: "log: -----BEGIN-----\nlog: first line\nlog: ab\nlog: -----END-----", want: "log: ***\nlog: ***\nlog: ab\nlog: ***",
		},
		{
			name: "the longest", env: []corev1.EnvVar{key("one", "PASSWORD"), key("two", "LONG")},
			text: "correct horse battery; correct horse", want: "***; ***",
		},
		{name: "a Secret that is gone", envFrom: []corev1.EnvFromSource{all("gone")}, text: "staple", want: "staple"},
		{name: "a Secret that can't be read for now", envFrom: []corev1.EnvFromSource{all("bad")}, text: "staple", want: "staple", err: errDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs"}}
			job.Spec.Template.Spec.Containers = []corev1.Container{{Env: test.env, EnvFrom: test.envFrom}}
			mask, err := Of(t.Context(), there, job)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got %v", err)
			}
			if got := mask.Text(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			value := map[string]any{"a": []any{test.text, 5.0}, test.text: nil}
			if difference := cmp.Diff(map[string]any{"a": []any{test.want, 5.0}, test.want: nil}, mask.Value(value)); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A Secret that is gone, or may not be read, holds no result back; one that can't be read for
// now is read again.
func TestSecretsThatCantBeRead(t *testing.T) {
	resource := corev1.Resource("secrets")
	for name, test := range map[string]struct {
		answer error
		fails  bool
	}{
		"it is gone":             {answer: apierrors.NewNotFound(resource, "x")},
		"there is no right":      {answer: apierrors.NewForbidden(resource, "x", errDown)},
		"the API server is down": {answer: errDown, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.answer })
			reader := &KubernetesSecrets{Client: clientset.Of(client), Log: slog.New(slog.DiscardHandler)}
			if _, found, err := reader.Secret(t.Context(), "jobs", "x"); found || (err != nil) != test.fails {
				t.Errorf("found: %t, %v", found, err)
			}
		})
	}
}

// Wherever a write ends, and whatever is cut later, no part of a value comes through.
func TestValuesAreHiddenWhereverAWriteEnds(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs"}}
	job.Spec.Template.Spec.Containers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{all("one")}}}
	mask, err := Of(t.Context(), secrets{"jobs/one": {"A": []byte("abcabcab"), "B": []byte("bcabcabcabc"), "C": []byte("staple")}}, job)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"x abcabcab y", "abcabcabcabcabcab staplestaple sta", "bcabcabcabcabcabcab", "stapl", "aaaaaaaaaabcabcaaaabcabcab", ""} {
		want := mask.Text(text)
		for first := range len(text) + 1 {
			for second := first; second <= len(text); second++ {
				var got strings.Builder
				through := mask.Through(&got)
				for _, part := range []string{text[:first], text[first:second], text[second:]} {
					if _, err := io.WriteString(through, part); err != nil {
						t.Fatal(err)
					}
				}
				if err := through.Close(); err != nil || got.String() != want {
					t.Fatalf("%q, written up to %d, %d: got %q, %v, want %q", text, first, second, got.String(), err, want)
				}
			}
		}
	}
}
