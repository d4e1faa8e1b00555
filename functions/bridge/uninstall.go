package bridge

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
)

// Uninstalled returns a function that says whether the installation is being taken
// away: its Deployment is deleted, or so are the rights and the account with which
// it could be looked at. A restart, or a scaling to zero, is none: it would lose the
// subscriptions that were edited in Keptn's web page. It looks for the
// first time when it is made: only rights that were there can be taken away.
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
