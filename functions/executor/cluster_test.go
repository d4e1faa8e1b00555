package executor

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
)

// Only pod security is a mistake: a quota may have room later, and without the right to
// ask nothing is known.
func TestOnlyPodSecurityRefusesAPod(t *testing.T) {
	forbidden := func(why string) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), "dry-run-x", errors.New(why))
	}
	tests := []struct {
		name   string
		answer error
		want   string
		err    error
	}{
		{name: "admitted"},
		{
			name: "pod security", answer: forbidden(`violates PodSecurity "baseline:latest": non-default capabilities`),
			want: `it violates PodSecurity "baseline:latest": non-default capabilities`,
		},
		{name: "a quota", answer: forbidden("exceeded quota: compute")},
		{name: "the right for the dry run is missing", answer: forbidden("User \"x\" cannot create resource \"pods\"")},
		{name: "other refusals are left to the Job", answer: apierrors.NewBadRequest("no")},
		{name: "the API server is down", answer: errors.New("connection refused"), err: errors.New("")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			dry := false
			client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				create, _ := action.(clienttesting.CreateActionImpl)
				dry = len(create.CreateOptions.DryRun) == 1 && action.GetNamespace() == "jobs"
				return true, &corev1.Pod{}, test.answer
			})
			got, err := (&KubernetesCluster{Client: clientset.Of(client)}).RefusesPod(t.Context(), "jobs", &corev1.PodSpec{})
			if got != test.want || (err == nil) != (test.err == nil) || !dry {
				t.Errorf("got %q, %v, without effect: %t", got, err, dry)
			}
		})
	}
}

// A privileged pod must be allowed explicitly.
func TestPrivilegedPodNeedsANamespaceForIt(t *testing.T) {
	tests := []struct {
		name   string
		labels map[string]string
		answer error
		want   string
	}{
		{name: "the namespace allows it", labels: map[string]string{enforceLabel: "privileged"}},
		{
			name: "the namespace enforces no level",
			want: `it is privileged, and namespace "jobs" does not have the label pod-security.kubernetes.io/enforce: privileged`,
		},
		{
			name: "the namespace cannot be read", answer: apierrors.NewForbidden(corev1.Resource("namespaces"), "jobs", errors.New("no")),
			want: `it is privileged, and the executor may not read whether namespace "jobs" allows that: namespaces "jobs" is forbidden: no`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "jobs", Labels: test.labels}})
			if test.answer != nil {
				client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.answer })
			}
			spec := &corev1.PodSpec{Containers: []corev1.Container{{SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}}
			got, err := (&KubernetesCluster{Client: clientset.Of(client)}).RefusesPod(t.Context(), "jobs", spec)
			if err != nil || got != test.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
