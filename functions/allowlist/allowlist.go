package allowlist

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/gobwas/glob"
	"k8s.io/apimachinery/pkg/labels"
)

// Selector is a label selector in an environment variable, in kubectl's syntax. The zero value selects nothing.
type Selector struct{ labels.Selector }

// UnmarshalText parses a selector.
func (s *Selector) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "" {
		*s = Selector{}
		return nil
	}
	parsed, err := labels.Parse(string(text))
	s.Selector = parsed
	return err
}

// Text returns the selector as it was written; empty if there is none.
func (s Selector) Text() string {
	if s.Selector == nil {
		return ""
	}
	return s.String()
}

// Selects reports whether the selector matches labels.
func (s Selector) Selects(of map[string]string) bool {
	return s.Selector != nil && s.Matches(labels.Set(of))
}

// Name reports whether a name matches one of the glob patterns. It returns an error for an invalid pattern.
func Name(patterns []string, name string) (bool, error) {
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

// Image reports whether an image matches one of the glob patterns. Full names are compared: busybox is
// docker.io/library/busybox:latest, in patterns and in images. A pattern without a tag matches any tag. If an
// image has a digest, its tag is ignored, as by Kubernetes.
func Image(patterns []string, image string) (bool, error) {
	parsed, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return false, nil // an invalid image name matches nothing
	}
	full := parsed.Name() + ":latest"
	if digested, ok := parsed.(reference.Digested); ok {
		full = parsed.Name() + "@" + digested.Digest().String()
	} else if tagged, ok := parsed.(reference.Tagged); ok {
		full = parsed.Name() + ":" + tagged.Tag()
	}
	patterns = inFull(patterns)
	for _, name := range []string{parsed.Name(), full} {
		if allowed, err := Name(patterns, name); err != nil || allowed {
			return allowed, err
		}
	}
	return false, nil
}

// inFull adds the registry to patterns, as image names have it.
func inFull(patterns []string) (full []string) {
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
