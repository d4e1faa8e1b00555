package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/gobwas/glob"
	"k8s.io/apimachinery/pkg/labels"
)

// Selector is a selector of labels in an environment variable, as kubectl has it; none selects
// nothing.
type Selector struct{ labels.Selector }

// UnmarshalText reads a selector; it is an error if it is none.
func (selector *Selector) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "" {
		*selector = Selector{}
		return nil
	}
	parsed, err := labels.Parse(string(text))
	selector.Selector = parsed
	return err
}

func (selector Selector) selects(of map[string]string) bool {
	return selector.Selector != nil && selector.Matches(labels.Set(of))
}

// matches says whether a name is one of those that patterns list.
func matches(patterns []string, name string) (bool, error) {
	for _, pattern := range patterns {
		compiled, err := glob.Compile(strings.TrimSpace(pattern))
		if err != nil {
			return false, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if compiled.Match(name) {
			return true, nil
		}
	}
	return false, nil
}

// checkImage looks whether an image may run. Names are compared in full: busybox is
// docker.io/library/busybox:latest, in patterns as in images. A pattern without a tag allows any;
// where an image has a digest its tag does not matter, as to Kubernetes.
func (plan Plan) checkImage(image string) error {
	if len(plan.AllowedImages) == 0 {
		return nil
	}
	forbidden := Mistakef("Forbidden: Image %s does not match configured image allowlist", image)
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return forbidden
	}
	full := named.Name() + ":latest"
	if digested, ok := named.(reference.Digested); ok {
		full = named.Name() + "@" + digested.Digest().String()
	} else if tagged, ok := named.(reference.Tagged); ok {
		full = named.Name() + ":" + tagged.Tag()
	}
	for _, name := range []string{named.Name(), full} {
		allowed, err := matches(fullPatterns(plan.AllowedImages), name)
		if err != nil {
			return fmt.Errorf("ALLOWED_IMAGES: %w", err)
		}
		if allowed {
			return nil
		}
	}
	return forbidden
}

// fullPatterns have the registry, as image names have it.
func fullPatterns(patterns []string) (full []string) {
	const registry, official = "docker.io/", "library/"
	for _, pattern := range patterns {
		pattern = strings.TrimSpace(pattern)
		first, _, hasPath := strings.Cut(pattern, "/")
		switch {
		case strings.HasPrefix(pattern, "*"), hasPath && strings.ContainsAny(first, ".:*?[{"), hasPath && first == "localhost":
		case hasPath:
			pattern = registry + pattern
		default:
			pattern = registry + official + pattern
		}
		full = append(full, pattern)
	}
	return full
}

// secret is a Secret that a task may name, of which the keys are known if it is there.
type secret struct {
	keys  []string
	found bool
}

// secret looks whether a task may name a Secret: one whose name is listed, or that has the label. One
// that is not there a task before may make. Who names another one is not told whether it exists.
func (plan Plan) secret(ctx context.Context, namespace, name string, later bool) (secret, error) {
	found, err := plan.Cluster.Secret(ctx, namespace, name)
	if err != nil {
		return secret{}, err
	}
	listed, err := matches(plan.AllowedSecrets, name)
	if err != nil {
		return secret{}, fmt.Errorf("ALLOWED_SECRETS: %w", err)
	}
	switch {
	case found != nil && (listed || plan.AllowedLabel.selects(found.Labels)):
		return secret{keys: found.Keys, found: true}, nil
	case found == nil && (listed || later):
		return secret{}, nil
	}
	return secret{}, Mistakef("there is no Secret %s in namespace %q, or tasks may not use it%s", name, namespace, plan.how())
}

// defaultAccount is the account of a pod that names none, as Kubernetes has it.
const defaultAccount = "default"

// checkServiceAccount looks whether a task may run as a service account: one that has the label,
// or whose name is listed, as those are that tasks have by default.
func (plan Plan) checkServiceAccount(ctx context.Context, namespace, name string, later bool) error {
	found, err := plan.Cluster.ServiceAccount(ctx, namespace, name)
	if err != nil {
		return err
	}
	listed, err := matches(append(slices.Clone(plan.AllowedServiceAccounts), plan.ServiceAccount, defaultAccount), name)
	if err != nil {
		return fmt.Errorf("ALLOWED_SERVICE_ACCOUNTS: %w", err)
	}
	switch {
	case found != nil && (listed || plan.AllowedLabel.selects(found.Labels)), found == nil && later:
		return nil
	case found == nil && listed:
		return Mistakef("service account %q does not exist in namespace %q", name, namespace)
	}
	return Mistakef("service account %q does not exist in namespace %q, or tasks may not run as it%s", name, namespace, plan.how())
}

// how says how something gets allowed.
func (plan Plan) how() string {
	if plan.AllowedLabel.Selector == nil {
		return ""
	}
	return "; what tasks may name has the label " + plan.AllowedLabel.String()
}
