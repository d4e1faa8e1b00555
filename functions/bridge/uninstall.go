package bridge

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
)

// Uninstalled returns a function that reports whether the installation is being removed: its Deployment is
// deleted, or the bridge has lost its account or the right to see the Deployment. A restart or a scale to zero
// does not count, because unregistering loses the subscriptions that were edited in Keptn's web page.
// Uninstalled checks the right at once: only a right that existed can be lost.
func Uninstalled(ctx context.Context, deployments appsclient.DeploymentInterface, name string) func(ctx context.Context) bool {
	_, err := deployments.Get(ctx, name, metav1.GetOptions{})
	allowed := err == nil
	return func(ctx context.Context) bool {
		deployment, err := deployments.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			return allowed
		case err != nil:
			return false
		default:
			return deployment.DeletionTimestamp != nil
		}
	}
}
