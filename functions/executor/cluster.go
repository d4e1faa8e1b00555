package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
)

// KubernetesCluster is the plan.Cluster that client-go reaches.
type KubernetesCluster struct {
	Core coreclient.CoreV1Interface
}

// SecretKeys returns the sorted keys of a Secret, false if there is none.
func (cluster *KubernetesCluster) SecretKeys(ctx context.Context, namespace, name string) ([]string, bool, error) {
	secret, err := cluster.Core.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading Secret %s/%s: %w", namespace, name, err)
	}
	return slices.Sorted(maps.Keys(secret.Data)), true, nil
}

// HasServiceAccount says whether a service account exists.
func (cluster *KubernetesCluster) HasServiceAccount(ctx context.Context, namespace, name string) (bool, error) {
	_, err := cluster.Core.ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading service account %s/%s: %w", namespace, name, err)
	}
	return true, nil
}
