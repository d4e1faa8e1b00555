package executor

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
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
		{name: "it is let in"},
		{
			name: "pod security", answer: forbidden(`violates PodSecurity "baseline:latest": non-default capabilities`),
			want: `it violates PodSecurity "baseline:latest": non-default capabilities`,
		},
		{name: "a quota", answer: forbidden("exceeded quota: compute")},
		{name: "no right to ask", answer: forbidden("User \"x\" cannot create resource \"pods\"")},
		{name: "what is wrong with it the Job tells", answer: apierrors.NewBadRequest("no")},
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
			got, err := (&KubernetesCluster{Core: client.CoreV1()}).RefusesPod(t.Context(), "jobs", &corev1.PodSpec{})
			if got != test.want || (err == nil) != (test.err == nil) || !dry {
				t.Errorf("got %q, %v, without effect: %t", got, err, dry)
			}
		})
	}
}
