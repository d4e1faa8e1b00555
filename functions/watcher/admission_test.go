package watcher

import (
	"encoding/json"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/run"
)

func TestWhatAnEarlierTaskMayCreateIsCheckedBeforeItIsUsed(t *testing.T) {
	const label = "job-executor.github.io/allowed=true"
	allowed := map[string]string{"job-executor.github.io/allowed": "true"}
	secret := func(labels map[string]string) runtime.Object {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "made", Labels: labels}}
	}
	account := func(labels map[string]string) runtime.Object {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "robot", Labels: labels}}
	}
	noSecret := `Secret made does not exist in namespace "jobs", or tasks may not use it`
	create := "; create it, and allow it with kubectl label secret made --namespace jobs " + label
	needsSecret := run.Unchecked{Secrets: []string{"made"}, Label: label}
	needsAccount := run.Unchecked{ServiceAccount: "robot", Label: label}
	tests := []struct {
		name      string
		unchecked run.Unchecked
		// annotation replaces unchecked.
		annotation string
		exists     []runtime.Object
		answer     error
		want       string
		fails      bool
	}{
		{name: "nothing to check"},
		{name: "an allowed Secret", unchecked: needsSecret, exists: []runtime.Object{secret(allowed)}},
		{name: "a Secret without the label", unchecked: needsSecret, exists: []runtime.Object{secret(nil)}, want: noSecret + create},
		{name: "a missing Secret", unchecked: needsSecret, want: noSecret + create},
		{
			name: "an unreadable Secret", unchecked: needsSecret,
			answer: apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "made", errors.New("no")), want: noSecret + create,
		},
		{
			name: "no label allows anything", unchecked: run.Unchecked{Secrets: []string{"made"}}, exists: []runtime.Object{secret(allowed)},
			want: noSecret + "; create it, or list it in the settings of the installation",
		},
		{name: "the API server is down", unchecked: needsSecret, answer: errors.New("connection refused"), fails: true},
		{name: "an allowed service account", unchecked: needsAccount, exists: []runtime.Object{account(allowed)}},
		{
			name: "a service account without the label", unchecked: needsAccount, exists: []runtime.Object{account(nil)},
			want: `service account robot does not exist in namespace "jobs", or tasks may not use it; create it, and allow it with ` +
				"kubectl label serviceaccount robot --namespace jobs " + label,
		},
		{
			name: "others changed the annotation", annotation: "{",
			want: "its annotation job-executor.github.io/unchecked cannot be read: unexpected end of JSON input",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset(test.exists...)
			if test.answer != nil {
				client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.answer })
			}
			content, err := json.Marshal(test.unchecked)
			if err != nil {
				t.Fatal(err)
			}
			if test.annotation != "" {
				content = []byte(test.annotation)
			}
			waits := job("second", run.Waiting)
			waits.Annotations[run.UncheckedAnnotation] = string(content)

			got, err := (&Admission{Client: clientset.Of(client)}).Refuses(t.Context(), &waits)

			if (err != nil) != test.fails {
				t.Errorf("got error %v", err)
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
