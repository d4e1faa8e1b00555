package redact

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

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

var (
	errDown = errors.New("down")
	noon    = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

// secrets are Secrets by namespace and name. A nil one cannot be read.
type secrets map[string]*corev1.Secret

func (s secrets) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	secret, found := s[namespace+"/"+name]
	if found && secret == nil {
		return nil, errDown
	}
	return secret, nil
}

// secret has its keys and values one after the other.
func secret(data ...string) *corev1.Secret {
	created := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon)}, Data: map[string][]byte{}}
	for index := 0; index < len(data); index += 2 {
		created.Data[data[index]] = []byte(data[index+1])
	}
	return created
}

func key(secret, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: key, ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key},
	}}
}

func all(secret string) corev1.EnvFromSource {
	return corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}
}

func jobWith(env []corev1.EnvVar, envFrom ...corev1.EnvFromSource) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs"}}
	job.Spec.Template.Spec.Containers = []corev1.Container{{Env: env, EnvFrom: envFrom}}
	return job
}

// redactorOf redacts all values of one Secret.
func redactorOf(t *testing.T, data ...string) *Redactor {
	t.Helper()
	r, err := New(t.Context(), secrets{"jobs/one": secret(data...)}, jobWith(nil, all("one")), noon.Add(time.Minute))
	if err != nil || r.Withheld != "" {
		t.Fatal(err, r)
	}
	return r
}

func TestValuesAreRedacted(t *testing.T) {
	there := secrets{
		"jobs/one": secret("PASSWORD", "correct horse\n", "OTHER", "staple", "PIN", "1234"),
		"jobs/two": secret("KEY", "-----BEGIN-----\nfirst line\nab\n-----END-----\n", "LONG", "correct horse battery"),
		"jobs/bad": nil, "others/one": secret("PASSWORD", "else where"),
	}
	tests := []struct {
		name       string
		env        []corev1.EnvVar
		envFrom    []corev1.EnvFromSource
		text, want string
		found      []string
		withheld   string
		err        error
	}{
		{name: "a Job without Secrets", env: []corev1.EnvVar{{Name: "X", Value: "correct horse"}}, text: "correct horse", want: "correct horse"},
		{
			name: "a key", env: []corev1.EnvVar{key("one", "PASSWORD")}, text: "x=correct horse; staple", want: "x=***; staple",
			found: []string{"PASSWORD of Secret one"},
		},
		{
			name: "several keys", env: []corev1.EnvVar{key("one", "PASSWORD"), key("one", "OTHER")}, text: "correct horse, staple", want: "***, ***",
			found: []string{"OTHER of Secret one", "PASSWORD of Secret one"},
		},
		{
			name: "a whole Secret", envFrom: []corev1.EnvFromSource{all("one")}, text: "correct horse, staple", want: "***, ***",
			found: []string{"OTHER of Secret one", "PASSWORD of Secret one"},
		},
		{
			name: "a whole Secret and one of its keys", env: []corev1.EnvVar{key("one", "OTHER")}, envFrom: []corev1.EnvFromSource{all("one")},
			text: "correct horse, staple", want: "***, ***", found: []string{"OTHER of Secret one", "PASSWORD of Secret one"},
		},
		{name: "short values are not redacted", envFrom: []corev1.EnvFromSource{all("one")}, text: "1234", want: "1234"},
		{
			name: "each line of a value", envFrom: []corev1.EnvFromSource{all("two")},
			text: "log: -----BEGIN-----\nlog: first line\nlog: ab\nlog: -----END-----", want: "log: ***\nlog: ***\nlog: ab\nlog: ***",
			found: []string{"KEY of Secret two"},
		},
		{
			name: "the longest value", env: []corev1.EnvVar{key("one", "PASSWORD"), key("two", "LONG")},
			text: "correct horse battery; correct horse", want: "***; ***", found: []string{"PASSWORD of Secret one", "LONG of Secret two"},
		},
		{
			name: "a deleted Secret withholds the log", envFrom: []corev1.EnvFromSource{all("gone")}, text: "staple", want: "staple",
			withheld: "Secret gone was deleted while the task ran, or cannot be read",
		},
		{name: "an unreachable API server is an error", envFrom: []corev1.EnvFromSource{all("bad")}, err: errDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := New(t.Context(), there, jobWith(test.env, test.envFrom...), noon.Add(time.Minute))
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			if got := r.Text(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if difference := cmp.Diff(test.found, r.Found()); difference != "" || r.Withheld != test.withheld {
				t.Errorf("withheld: %q, found (-want +got):\n%s", r.Withheld, difference)
			}
			value := map[string]any{"a": []any{test.text, 5.0}, test.text: nil}
			if difference := cmp.Diff(map[string]any{"a": []any{test.want, 5.0}, test.want: nil}, r.Value("", value, func(string, []string) {})); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestValuesAreRedactedInEveryForm(t *testing.T) {
	const token, password, quoted = "s3cr3t-token-1", "p@ss/w+rd=1", `p"ss\word<1>`
	long := strings.Repeat("0123456789abcdef", 10)
	tests := []struct{ name, value, text, want string }{
		{"base64", token, "Bearer czNjcjN0LXRva2VuLTE=", "Bearer ***="},
		{"base64 of a line", token, "czNjcjN0LXRva2VuLTEK", "***K"},
		{"base64 of user and value", token, "dXNlcjpzM2NyM3QtdG9rZW4tMQ==", "dXNlcjp***Q=="},
		{"the other alphabet of base64", "??>>??>>", "Pz8-Pj8_Pj4", "***"},
		{"base64 that is wrapped", long, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4\n", "***\n"},
		{"percent-encoded", password, "postgres://app:p%40ss%2Fw%2Brd%3D1@db/shop", "postgres://app:***@db/shop"},
		{"percent-encoded in lower case", password, "p%40ss%2fw%2brd%3d1", "***"},
		{"part of a path", password, "/p@ss%2Fw+rd=1/", "/***/"},
		{"in JSON", quoted, `{"password":"p\"ss\\word<1>"}`, `{"password":"***"}`},
		{"in JSON of Go", quoted, `{"password":"p\"ss\\word\u003c1\u003e"}`, `{"password":"***"}`},
		{"in JSON in JSON", quoted, `"{\"password\":\"p\\\"ss\\\\word<1>\"}"`, `"{\"password\":\"***\"}"`},
		{"in JSON of Go in JSON", quoted, `"{\"password\":\"p\\\"ss\\\\word\\u003c1\\u003e\"}"`, `"{\"password\":\"***\"}"`},
		{"in JSON in JSON of Go", quoted, `"{\"password\":\"p\\\"ss\\\\word\u003c1\u003e\"}"`, `"{\"password\":\"***\"}"`},
		{"in JSON of PHP", password, `"p@ss\/w+rd=1"`, `"***"`},
		{"in XML", quoted, "p&#34;ss\\word&lt;1&gt;", "***"},
		{"quoted by a shell", "it's-a-secret", `curl -u 'app:it'\''s-a-secret'`, `curl -u 'app:***'`},
		{"many lines as one", "-----BEGIN KEY-----\nMIIEabcdef0123456789\n", `"-----BEGIN KEY-----\nMIIEabcdef0123456789\n"`, `"***\n"`},
		{"with colours", token, "\x1b[1ms3cr3t\x1b[0m-token-1", "***"},
		{"with an 8-bit colour", token, "s3cr3t\u009b0m-token-1", "***"},
		{"with NULs, as in UTF-16", token, "s\x003\x00c\x00r\x003\x00t\x00-\x00t\x00o\x00k\x00e\x00n\x00-\x001\x00", "***"},
		{"with a carriage return", token, "s3cr3\rs3cr3t-token-1\r\n", "***\n"},
		{"with a backspace", token, "s3cr3x\bt-token-1", "***"},
		{"a value with control characters", "abc\x01def\x02ghi", "abc\x01def\x02ghi abcdefghi", "*** ***"},
		{"twice in a row", token, token + token, "***"},
		{"its beginning only", token, "s3cr3t-token", "s3cr3t-token"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := redactorOf(t, "KEY", test.value).Text(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A changed Secret has other values than the container had.
func TestLogIsWithheldIfASecretChanged(t *testing.T) {
	updated := func(after time.Duration, fields string) *corev1.Secret {
		created := secret("A", "staple")
		created.ManagedFields = []metav1.ManagedFieldsEntry{{Time: new(metav1.NewTime(noon.Add(after))), FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}}}
		return created
	}
	createdAt := func(at time.Time) *corev1.Secret {
		created := secret("A", "staple")
		created.CreationTimestamp = metav1.NewTime(at)
		return created
	}
	const (
		data, labels = `{"f:data":{"f:A":{}}}`, `{"f:metadata":{"f:labels":{}}}`
		started      = 10 * time.Second
	)
	tests := []struct {
		name   string
		secret *corev1.Secret
		want   string
	}{
		{name: "created before", secret: secret("A", "staple")},
		{name: "created in the second of the start", secret: createdAt(noon.Add(started))},
		{name: "created while it ran", secret: createdAt(noon.Add(started + time.Second)), want: "Secret one was changed while the task ran"},
		{name: "updated before", secret: updated(started-clockSkew, data)},
		{name: "updated at nearly the same time", secret: updated(started-clockSkew+time.Second, data), want: "Secret one was changed while the task ran"},
		{name: "updated while it ran", secret: updated(started+time.Second, data), want: "Secret one was changed while the task ran"},
		{name: "labelled while it ran", secret: updated(started+time.Second, labels)},
		{name: "too large", secret: secret("A", strings.Repeat("0123456789", maxPatternBytes/10)), want: "the values of Secret one are too large to be redacted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := New(t.Context(), secrets{"jobs/one": test.secret}, jobWith(nil, all("one")), noon.Add(started))
			if err != nil || r.Withheld != test.want {
				t.Errorf("got %v, %q, want %q", err, r.Withheld, test.want)
			}
			if got := r.Text("plain"); got != "plain" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestLogIsWithheldIfAKeyWasRemoved(t *testing.T) {
	const want = "key A of Secret one was removed while the task ran"
	r, err := New(t.Context(), secrets{"jobs/one": secret("B", "staple")}, jobWith([]corev1.EnvVar{key("one", "A")}), noon)
	if err != nil || r.Withheld != want {
		t.Errorf("got %v, %q, want %q", err, r.Withheld, want)
	}
}

func TestSecretsThatCannotBeRead(t *testing.T) {
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
			if found, err := reader.Secret(t.Context(), "jobs", "x"); found != nil || (err != nil) != test.fails {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}

func TestChangedMembersAreNamed(t *testing.T) {
	var changed []string
	note := func(path string, keys []string) { changed = append(changed, path+" has "+strings.Join(keys, ", ")) }
	value := map[string]any{
		"deployment": map[string]any{"uris": []any{"http://carts.default.svc", "x"}}, "pin": json.Number("4821377"), "staple": "y", "ok": true,
	}
	got := redactorOf(t, "NAMESPACE", "default", "PIN", "4821377", "T", "staple").Value("", value, note)
	want := map[string]any{"deployment": map[string]any{"uris": []any{"http://carts.***.svc", "x"}}, "pin": "***", "***": "y", "ok": true}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if difference := cmp.Diff([]string{
		"deployment.uris[0] has NAMESPACE of Secret one", "pin has PIN of Secret one", "*** has T of Secret one",
	}, changed); difference != "" {
		t.Errorf("changed (-want +got):\n%s", difference)
	}
}

// Redaction does not depend on how the text is split into writes.
func TestValuesAreRedactedWhereverAWriteEnds(t *testing.T) {
	r := redactorOf(t, "A", "abcabcab", "B", "bcabcabcabc", "C", "staple")
	for _, text := range []string{
		"x abcabcab y", "abcabcabcabcabcab staplestaple sta", "bcabcabcabcabcabcab", "stapl", "aaaaaaaaaabcabcaaaabcabcab", "", "s\x1b[0mtaple ö\r\nab\rstaple",
	} {
		want := r.Text(text)
		for first := range len(text) + 1 {
			for second := first; second <= len(text); second++ {
				var got strings.Builder
				through := r.Through(&got)
				for _, part := range []string{text[:first], text[first:second], text[second:]} {
					if _, err := io.WriteString(through, part); err != nil {
						t.Fatal(err)
					}
				}
				if err := through.Close(); err != nil || got.String() != want {
					t.Fatalf("%q, split at %d and %d: got %q, %v, want %q", text, first, second, got.String(), err, want)
				}
			}
		}
	}
}

// counter counts written bytes.
type counter struct {
	written int
}

func (c *counter) Write(content []byte) (int, error) {
	c.written += len(content)
	return len(content), nil
}

// A value that repeats itself makes neither the time quadratic nor the memory grow.
func TestPeriodicTextIsHeldBackByNoMoreThanAValue(t *testing.T) {
	r := redactorOf(t, "A", strings.Repeat("-", 4000)+"x")
	out := &counter{}
	w := &writer{redactor: r, to: out}
	chunk := []byte(strings.Repeat("-", 32<<10))
	for range 320 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if len(w.held) > 4100 || len(w.covered) > 2 {
			t.Fatalf("%d bytes are held back, %d spans", len(w.held), len(w.covered))
		}
	}
	if err := w.Close(); err != nil || out.written != 320*len(chunk) {
		t.Errorf("%d bytes written, %v", out.written, err)
	}
}

func TestClean(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"colours", "\x1b[31mred\x1b[0m", "red"},
		{"a title", "\x1b]0;title\x07text", "text"},
		{"a link", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"a title without an end", "\x1b]0;title\ntext", "\ntext"},
		{"a character set", "\x1b(Btext", "text"},
		{"a progress bar", "10%\r20%\r100%\n", "100%\n"},
		{"a progress bar at the end", "10%\r20%\r", "20%"},
		{"a progress bar by cursor", "10%\x1b[1G20%\x1b[2K\x1b[G30%", "30%"},
		{"the line ends of Windows", "one\r\ntwo\r\n", "one\ntwo\n"},
		{"a spinner", "|\b/\b-", "-"},
		{"control characters", "a\x00b\tc\x7fd\u0085", "ab\tcd"},
		{"invalid UTF-8", "a\xffb\xc3", "a\ufffdb\ufffd"},
		{"a long line", strings.Repeat("x", maxLineBytes+1) + "\ry", strings.Repeat("x", maxLineBytes) + "y"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Clean(test.text); got != test.want {
				t.Errorf("got %.80q, want %.80q", got, test.want)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("s3cr3t-token-1", "x s3cr3t-\x1b[0mtoken-1\r\n")
	f.Fuzz(func(t *testing.T, value, text string) {
		r, err := New(t.Context(), secrets{"jobs/one": secret("A", value)}, jobWith(nil, all("one")), noon.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		got := r.Text(text)
		if trimmed := strings.TrimSpace(Clean(value)); len(trimmed) >= minBytes && !strings.Contains(trimmed, "*") && strings.Contains(got, trimmed) {
			t.Errorf("%q is in %q", trimmed, got)
		}
	})
}
