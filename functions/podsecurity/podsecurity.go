package podsecurity

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Level is a level of pod security.
type Level = api.Level

// Baseline is the default level of an installation's namespace for Jobs.
const Baseline = api.LevelBaseline

// Levels returns all levels, the strictest first.
func Levels() []string {
	return []string{string(api.LevelRestricted), string(api.LevelBaseline), string(api.LevelPrivileged)}
}

// ParseLevel parses a level, in the form of the label pod-security.kubernetes.io/enforce.
func ParseLevel(name string) (Level, error) {
	level, err := api.ParseLevel(name)
	if err != nil {
		return "", fmt.Errorf("level %q: %w", name, err)
	}
	return level, nil
}

// Refusal returns the API server's message for a pod that a level does not allow; empty if it does.
func Refusal(level Level, spec *corev1.PodSpec) (string, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return "", fmt.Errorf("prepare the checks of pod security: %w", err)
	}
	of := api.LevelVersion{Level: level, Version: api.LatestVersion()}
	found := policy.AggregateCheckResults(evaluator.EvaluatePod(of, &metav1.ObjectMeta{}, spec))
	if found.Allowed {
		return "", nil
	}
	return fmt.Sprintf("violates PodSecurity %q: %s", of, found.ForbiddenDetail()), nil
}
