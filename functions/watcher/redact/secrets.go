package redact

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cluster"
)

// KubernetesSecrets reads Secrets from the API server.
type KubernetesSecrets struct {
	Client cluster.Client
	Log    *slog.Logger
}

// Secret returns nil if the Secret does not exist or may not be read: retrying would hold the
// result back for ever.
func (s *KubernetesSecrets) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret, err := s.Client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		s.Log.WarnContext(ctx, "withholding the log of a task: a Secret cannot be read", "namespace", namespace, "secret", name, "error", err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, name, err)
	}
	return secret, nil
}
