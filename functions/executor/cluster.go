package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/executor/plan"
)

// KubernetesCluster implements plan.Cluster with a client.
type KubernetesCluster struct {
	Client cluster.Client
}

// Secret returns a Secret's keys and labels, nil if it does not exist.
func (k *KubernetesCluster) Secret(ctx context.Context, namespace, name string) (*plan.Object, error) {
	secret, err := k.Client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if apierrors.IsForbidden(err) {
		return nil, noNamespace(namespace, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, name, err)
	}
	return &plan.Object{Labels: secret.Labels, Keys: slices.Sorted(maps.Keys(secret.Data))}, nil
}

const (
	// podSecurity is a part of the API server's message about a pod that pod security does not allow
	// (k8s.io/pod-security-admission).
	podSecurity = "violates PodSecurity"
	// enforceLabel is a namespace's label with its level, and privileged the level that allows everything.
	enforceLabel = "pod-security.kubernetes.io/enforce"
	privileged   = "privileged"
)

// RefusesPod returns why pod security does not allow a pod, by a dry run of its creation. Other refusals, such as a
// quota, may be over when the pod is created, and are ignored. A privileged container needs a namespace whose label
// allows it: a missing label may be an oversight.
func (k *KubernetesCluster) RefusesPod(ctx context.Context, namespace string, spec *corev1.PodSpec) (string, error) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "dry-run-"}, Spec: *spec}
	_, err := k.Client.Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	status, ok := errors.AsType[*apierrors.StatusError](err)
	switch {
	case !ok && err != nil:
		return "", fmt.Errorf("create a pod in namespace %s (dry run): %w", namespace, err)
	case ok && apierrors.IsForbidden(err) && strings.Contains(status.ErrStatus.Message, podSecurity):
		_, why, _ := strings.Cut(status.ErrStatus.Message, podSecurity)
		return "it " + podSecurity + why, nil
	case !slices.ContainsFunc(spec.Containers, isPrivileged):
		return "", nil
	}
	found, err := k.Client.Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("it is privileged, and the executor may not read whether namespace %q allows that: %s", namespace, err), nil
	case err != nil:
		return "", fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	if level := found.Labels[enforceLabel]; level != privileged {
		return fmt.Sprintf("it is privileged, and namespace %q does not have the label %s: %s", namespace, enforceLabel, privileged), nil
	}
	return "", nil
}

func isPrivileged(container corev1.Container) bool {
	return container.SecurityContext != nil && container.SecurityContext.Privileged != nil && *container.SecurityContext.Privileged
}

// ServiceAccount returns a service account's labels, nil if it does not exist.
func (k *KubernetesCluster) ServiceAccount(ctx context.Context, namespace, name string) (*plan.Object, error) {
	account, err := k.Client.ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if apierrors.IsForbidden(err) {
		return nil, noNamespace(namespace, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read service account %s/%s: %w", namespace, name, err)
	}
	return &plan.Object{Labels: account.Labels}, nil
}

// noNamespace explains a refusal: the executor has rights in each of its namespaces.
func noNamespace(namespace string, err error) error {
	return plan.Mistakef("namespace %q does not exist, or lacks the roles of Job Executor (config/200-accounts.yaml): %w", namespace, err)
}
