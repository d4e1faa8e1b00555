package mask

import (
	"context"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cluster"
)

// KubernetesSecrets are the Secrets of the Jobs' namespaces, as a Reader has them.
type KubernetesSecrets struct {
	Client cluster.Client
	Log    *slog.Logger
}

// Secret returns the data of a Secret; false if there is none, or if it may not be read,
// which is no reason to hold a result back.
func (secrets *KubernetesSecrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, bool, error) {
	secret, err := secrets.Client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		secrets.Log.WarnContext(ctx, "a Secret of a task can't be read, so its values are not hidden in what Keptn is told", "namespace", namespace, "name", name, "error", err)
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("reading Secret %s/%s: %w", namespace, name, err)
	}
	return secret.Data, true, nil
}
