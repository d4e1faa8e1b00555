package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/allowlist"
	"github.com/job-executor/job-executor/functions/run"
)

// checkImage returns a mistake if an image may not run.
func (p Plan) checkImage(image string) error {
	if len(p.AllowedImages) == 0 {
		return nil
	}
	allowed, err := allowlist.Image(p.AllowedImages, image)
	if err != nil {
		return fmt.Errorf("ALLOWED_IMAGES: %w", err)
	}
	if !allowed {
		return Mistakef("Forbidden: Image %s does not match configured image allowlist (ALLOWED_IMAGES: %s)", image, strings.Join(p.AllowedImages, ", "))
	}
	return nil
}

// secret returns a Secret that a task may reference: its name is listed, or it has the label. For a later task,
// a missing or disallowed Secret is nil, because an earlier task may create it; the watcher checks it before
// the task starts. The message does not reveal whether a disallowed Secret exists.
func (p Plan) secret(ctx context.Context, namespace, name string, later bool) (*Object, error) {
	found, err := p.Cluster.Secret(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	listed, err := p.isListed("ALLOWED_SECRETS", p.AllowedSecrets, name)
	switch {
	case err != nil:
		return nil, err
	case found != nil && (listed || p.AllowedLabel.Selects(found.Labels)):
		return found, nil
	case later:
		return nil, nil
	default:
		return nil, Mistakef("%s", run.NotAllowed("Secret", "secret", namespace, name, p.AllowedLabel.Text()))
	}
}

func (p Plan) isListed(variable string, patterns []string, name string) (bool, error) {
	listed, err := allowlist.Name(patterns, name)
	if err != nil {
		return false, fmt.Errorf("%s: %w", variable, err)
	}
	return listed, nil
}

// defaultAccount is Kubernetes' account for pods without one.
const defaultAccount = "default"

// checkServiceAccount checks that a task may use a service account, by the rules for Secrets. The default
// service accounts are always allowed.
func (p Plan) checkServiceAccount(ctx context.Context, namespace, name string, later bool) error {
	found, err := p.Cluster.ServiceAccount(ctx, namespace, name)
	if err != nil {
		return err
	}
	listed, err := p.isListed("ALLOWED_SERVICE_ACCOUNTS", p.accounts(), name)
	switch {
	case err != nil:
		return err
	case found != nil && (listed || p.AllowedLabel.Selects(found.Labels)), later:
		return nil
	default:
		return Mistakef("%s", run.NotAllowed("service account", "serviceaccount", namespace, name, p.AllowedLabel.Text()))
	}
}

func (r Rules) accounts() []string {
	return append(slices.Clone(r.AllowedServiceAccounts), r.ServiceAccount, defaultAccount)
}

// ListsAccount reports whether tasks may use a service account because of its name, whatever its labels.
func (r Rules) ListsAccount(name string) bool {
	listed, err := allowlist.Name(r.accounts(), name)
	return err == nil && listed
}

// MayBeNamed reports whether tasks may reference a Secret or service account with a name and labels.
func (r Rules) MayBeNamed(name string, labels map[string]string) bool {
	listed, err := allowlist.Name(append(r.accounts(), r.AllowedSecrets...), name)
	return err == nil && listed || r.AllowedLabel.Selects(labels)
}

// unchecked returns what the watcher must check before a later task starts: everything not allowed by
// name.
func (p Plan) unchecked(spec *corev1.PodSpec) (run.Unchecked, error) {
	unchecked := run.Unchecked{Label: p.AllowedLabel.Text()}
	names := map[string]bool{}
	for _, secret := range spec.ImagePullSecrets {
		names[secret.Name] = true
	}
	for _, container := range spec.Containers {
		for _, source := range container.EnvFrom {
			names[source.SecretRef.Name] = true
		}
		for _, variable := range container.Env {
			if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
				names[variable.ValueFrom.SecretKeyRef.Name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		listed, err := p.isListed("ALLOWED_SECRETS", p.AllowedSecrets, name)
		if err != nil {
			return run.Unchecked{}, err
		}
		if !listed {
			unchecked.Secrets = append(unchecked.Secrets, name)
		}
	}
	listed, err := p.isListed("ALLOWED_SERVICE_ACCOUNTS", p.accounts(), spec.ServiceAccountName)
	if !listed {
		unchecked.ServiceAccount = spec.ServiceAccountName
	}
	return unchecked, err
}
