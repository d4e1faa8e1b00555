package plan

import (
	"context"
	"fmt"
	"slices"

	"github.com/job-executor/job-executor/functions/allowlist"
)

// checkImage looks whether an image may run.
func (plan Plan) checkImage(image string) error {
	if len(plan.AllowedImages) == 0 {
		return nil
	}
	allowed, err := allowlist.Image(plan.AllowedImages, image)
	if err != nil {
		return fmt.Errorf("ALLOWED_IMAGES: %w", err)
	}
	if !allowed {
		return Mistakef("Forbidden: Image %s does not match configured image allowlist", image)
	}
	return nil
}

// secret returns a Secret that a task may name: one whose name is listed, or that has the label; nil
// if it is not there, and a task before may make it. Who names another one is not told whether it
// exists.
func (plan Plan) secret(ctx context.Context, namespace, name string, later bool) (*Object, error) {
	found, err := plan.Cluster.Secret(ctx, namespace, name)
	if err != nil || found == nil && later {
		return nil, err
	}
	listed, err := allowlist.Name(plan.AllowedSecrets, name)
	if err != nil {
		return nil, fmt.Errorf("ALLOWED_SECRETS: %w", err)
	}
	if found == nil || !listed && !plan.AllowedLabel.Selects(found.Labels) {
		return nil, Mistakef("there is no Secret %s in namespace %q, or tasks may not use it%s", name, namespace, plan.how())
	}
	return found, nil
}

// defaultAccount is the account of a pod that names none, as Kubernetes has it.
const defaultAccount = "default"

// checkServiceAccount looks whether a task may run as a service account: one that has the label,
// or whose name is listed, as those are that tasks have by default.
func (plan Plan) checkServiceAccount(ctx context.Context, namespace, name string, later bool) error {
	found, err := plan.Cluster.ServiceAccount(ctx, namespace, name)
	if err != nil || found == nil && later {
		return err
	}
	listed, err := allowlist.Name(append(slices.Clone(plan.AllowedServiceAccounts), plan.ServiceAccount, defaultAccount), name)
	if err != nil {
		return fmt.Errorf("ALLOWED_SERVICE_ACCOUNTS: %w", err)
	}
	if found == nil || !listed && !plan.AllowedLabel.Selects(found.Labels) {
		return Mistakef("service account %q does not exist in namespace %q, or tasks may not run as it%s", name, namespace, plan.how())
	}
	return nil
}

// how says how something gets allowed.
func (plan Plan) how() string {
	if plan.AllowedLabel.Selector == nil {
		return ""
	}
	return "; what tasks may name has the label " + plan.AllowedLabel.String()
}
