package bridge

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestUninstalled(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: "bridge"}}
	deleted := deployment.DeepCopy()
	deleted.DeletionTimestamp, deleted.Finalizers = &metav1.Time{Time: noon}, []string{"foregroundDeletion"}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "bridge", errDown)
	answer := func(object runtime.Object, err error) func(clienttesting.Action) (bool, runtime.Object, error) {
		return func(clienttesting.Action) (bool, runtime.Object, error) { return true, object, err }
	}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "deployments"}, "bridge")
	tests := []struct {
		name           string
		started, ended func(clienttesting.Action) (bool, runtime.Object, error)
		want           bool
	}{
		{"a restart", answer(deployment, nil), answer(deployment, nil), false},
		{"deleted", answer(deployment, nil), answer(nil, missing), true},
		{"being deleted", answer(deployment, nil), answer(deleted, nil), true},
		{"its rights are deleted", answer(deployment, nil), answer(nil, forbidden), true},
		{"it never had the rights", answer(nil, forbidden), answer(nil, forbidden), false},
		{"Kubernetes is down", answer(deployment, nil), answer(nil, errDown), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := &fake.Clientset{}
			react := test.started
			client.AddReactor("get", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) { return react(action) })
			uninstalled := Uninstalled(t.Context(), client.AppsV1().Deployments("job-executor"), "bridge")
			react = test.ended
			if got := uninstalled(t.Context()); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
