package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
)

// Manifests are the parts of config/ that decide how the functions work together.
type Manifests struct {
	Triggers []eventingv1.Trigger
	// Settings has the data of all ConfigMaps of the installation.
	Settings map[string]string
	// variables are the other variables of containers, by the name of their Deployment or Knative Service.
	variables map[string]map[string]string
}

// Environment returns the environment of a workload's container: all settings and the variables of its manifest,
// without values of its pod.
func (m Manifests) Environment(workload string) map[string]string {
	variables := maps.Clone(m.Settings)
	maps.Copy(variables, m.variables[workload])
	return variables
}

// ReadManifests reads the manifests in a directory, without its subdirectories.
func ReadManifests(directory string) (Manifests, error) {
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err == nil && len(files) == 0 {
		err = os.ErrNotExist
	}
	if err != nil {
		return Manifests{}, fmt.Errorf("look for manifests in %s: %w", directory, err)
	}
	manifests := Manifests{Settings: map[string]string{}, variables: map[string]map[string]string{}}
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // the caller's directory
		if err != nil {
			return Manifests{}, fmt.Errorf("read a manifest: %w", err)
		}
		if err := manifests.read(content); err != nil {
			return Manifests{}, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return manifests, nil
}

func (m *Manifests) read(content []byte) error {
	for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("split it into documents: %w", err)
		}
		if err := m.add(document); err != nil {
			return err
		}
	}
}

// add adds a document, or each item of a list.
func (m *Manifests) add(document []byte) error {
	var kind struct {
		runtime.TypeMeta `json:",inline"`
		Items            []runtime.RawExtension
	}
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return fmt.Errorf("decode a document: %w", err)
	}
	switch kind.Kind {
	case "List":
		for _, item := range kind.Items {
			if err := m.add(item.Raw); err != nil {
				return err
			}
		}
	case "Deployment", "Service":
		var workload struct {
			Metadata metav1.ObjectMeta
			Spec     struct{ Template corev1.PodTemplateSpec }
		}
		if err := yaml.Unmarshal(document, &workload); err != nil {
			return fmt.Errorf("decode a workload: %w", err)
		}
		for _, container := range workload.Spec.Template.Spec.Containers {
			variables := map[string]string{}
			for _, variable := range container.Env {
				if variable.ValueFrom == nil {
					variables[variable.Name] = variable.Value
				}
			}
			m.variables[workload.Metadata.Name] = variables
		}
	case "Trigger":
		var trigger eventingv1.Trigger
		if err := yaml.UnmarshalStrict(document, &trigger); err != nil {
			return fmt.Errorf("decode a Trigger: %w", err)
		}
		m.Triggers = append(m.Triggers, trigger)
	case "ConfigMap":
		var settings corev1.ConfigMap
		if err := yaml.UnmarshalStrict(document, &settings); err != nil {
			return fmt.Errorf("decode a ConfigMap: %w", err)
		}
		for name, value := range settings.Data {
			m.Settings[name] = value
		}
	}
	return nil
}
