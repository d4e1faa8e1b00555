package manifests

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Overlay builds components of the directory config/ on a base: a file with manifests, or the directory itself if the name is
// empty.
func Overlay(config, base string, components ...string) ([]byte, error) {
	directory, err := os.MkdirTemp("", "overlay")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the overlay: %w", err)
	}
	defer func() { _ = os.RemoveAll(directory) }()
	if err := os.CopyFS(filepath.Join(directory, "config"), os.DirFS(config)); err != nil { // kustomize refuses absolute paths
		return nil, fmt.Errorf("copy %s: %w", config, err)
	}
	resource := "config"
	files := map[string][]byte{}
	if base != "" {
		resource = "base.yaml"
		if files[resource], err = os.ReadFile(base); err != nil { //nolint:gosec // the caller's file
			return nil, fmt.Errorf("read the base of the overlay: %w", err)
		}
	}
	text := "resources: [" + resource + "]\ncomponents:\n"
	for _, name := range components {
		text += "- config/overlays/" + name + "\n"
	}
	files["kustomization.yaml"] = []byte(text)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("write the overlay: %w", err)
		}
	}
	return Kustomize(directory)
}

// Kustomize builds a directory like kubectl kustomize.
func Kustomize(directory string) ([]byte, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, fmt.Errorf("build the overlay: %w", err)
	}
	content, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("write the built objects: %w", err)
	}
	return content, nil
}
