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
		{name: "a restart", started: answer(deployment, nil), ended: answer(deployment, nil)},
		{name: "deleted", started: answer(deployment, nil), ended: answer(nil, missing), want: true},
		{name: "being deleted", started: answer(deployment, nil), ended: answer(deleted, nil), want: true},
		{name: "its rights are deleted", started: answer(deployment, nil), ended: answer(nil, forbidden), want: true},
		{name: "it never had the rights", started: answer(nil, forbidden), ended: answer(nil, forbidden)},
		{name: "Kubernetes is down", started: answer(deployment, nil), ended: answer(nil, errDown)},
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
