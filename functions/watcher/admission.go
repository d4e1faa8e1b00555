package watcher

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/allowlist"
	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/run"
)

// Admission checks Secrets and service accounts that an earlier task of the run may have created. Missing and
// forbidden objects get the same answer.
type Admission struct {
	Client cluster.Client
}

// Refuses returns why a Job may not start, empty if it may.
func (a *Admission) Refuses(ctx context.Context, job *batchv1.Job) (string, error) {
	unchecked, err := run.UncheckedOf(job)
	if err != nil {
		return err.Error(), nil
	}
	var allowed allowlist.Selector
	if err := allowed.UnmarshalText([]byte(unchecked.Label)); err != nil {
		allowed = allowlist.Selector{} // which selects nothing
	}
	for _, name := range unchecked.Secrets {
		secret, err := a.Client.Secrets(job.Namespace).Get(ctx, name, metav1.GetOptions{})
		if isUnreadable(err) || err == nil && !allowed.Selects(secret.Labels) {
			return run.NotAllowed("Secret", "secret", job.Namespace, name, unchecked.Label), nil
		}
		if err != nil {
			return "", fmt.Errorf("read Secret %s/%s: %w", job.Namespace, name, err)
		}
	}
	if name := unchecked.ServiceAccount; name != "" {
		account, err := a.Client.ServiceAccounts(job.Namespace).Get(ctx, name, metav1.GetOptions{})
		if isUnreadable(err) || err == nil && !allowed.Selects(account.Labels) {
			return run.NotAllowed("service account", "serviceaccount", job.Namespace, name, unchecked.Label), nil
		}
		if err != nil {
			return "", fmt.Errorf("read service account %s/%s: %w", job.Namespace, name, err)
		}
	}
	return "", nil
}

func isUnreadable(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) }
