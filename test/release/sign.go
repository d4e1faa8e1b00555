package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// keyless signs with the identity of a workflow instead of a key, and publishes the signatures in Sigstore's transparency log.
const keyless = "keyless"

const provenanceFile = "provenance.json"

// provenance writes how the release was built (SLSA 1.0, provenance), for the attestations of its images.
func (r release) provenance(ctx context.Context) error {
	commit, err := r.output(ctx, nil, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(map[string]any{
		"buildDefinition": map[string]any{
			"buildType":          "https://" + module + "/blob/main/Makefile#release",
			"externalParameters": map[string]string{"VERSION": r.version},
			"resolvedDependencies": []any{map[string]any{
				"uri": "git+https://" + module, "digest": map[string]string{"gitCommit": strings.TrimSpace(string(commit))},
			}},
		},
		"runDetails": map[string]any{
			"builder":  map[string]string{"id": r.builder},
			"metadata": map[string]string{"finishedOn": time.Now().UTC().Format(time.RFC3339)},
		},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the provenance: %w", err)
	}
	return r.write(provenanceFile, append(content, '\n'))
}

var digests = regexp.MustCompile(`[^\s"']+@sha256:[0-9a-f]{64}`)

// images returns the images of the manifests, each once.
func (r release) images() ([]string, error) {
	content, err := os.ReadFile(r.path(manifest))
	if err != nil {
		return nil, fmt.Errorf("read the images of the release: %w", err)
	}
	found := digests.FindAllString(string(content), -1)
	slices.Sort(found)
	return slices.Compact(found), nil
}

// sign signs all images, their provenance, and the checksums of all files. Without a key it does nothing.
func (r release) sign(ctx context.Context) error {
	if r.key == "" {
		return nil
	}
	with := []string{"--yes"}
	if r.key != keyless {
		with = append(with, "--key", r.key, "--tlog-upload=false")
	}
	images, err := r.images()
	if err != nil {
		return err
	}
	for _, image := range images {
		if _, err := r.output(ctx, nil, r.cosign, slices.Concat([]string{"sign"}, with, []string{image})...); err != nil {
			return err
		}
		attest := []string{"--type", "slsaprovenance1", "--predicate", r.path(provenanceFile), image}
		if _, err := r.output(ctx, nil, r.cosign, slices.Concat([]string{"attest"}, with, attest)...); err != nil {
			return err
		}
	}
	_, err = r.output(ctx, nil, r.cosign, slices.Concat([]string{"sign-blob"}, with, []string{"--bundle", r.path(checksumsFile + ".bundle"), r.path(checksumsFile)})...)
	return err
}
