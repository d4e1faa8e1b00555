package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
)

// scene is a project and its sequence.
type scene struct {
	project, stage, service, sequence string
	// stages are all stages of the shipyard, and stage is the first.
	stages   []string
	shipyard string
	// eventType is the type of the task's triggered event.
	eventType string
	// data is the event's, but for project, stage and service.
	data map[string]any
	// files are put at the service's level.
	files map[string][]byte
}

// The most that a person's event or one of the files may have.
const (
	maxEventBytes = 1 << 20
	maxFileBytes  = 64 << 20
)

// newScene returns the default project, or that of the options.
func newScene(options options, shop string) (scene, error) {
	made := scene{project: "demo", stage: "production", stages: []string{"production"}, service: "shop", sequence: "pipeline", files: map[string][]byte{}}
	made.data = map[string]any{"deployment": map[string]any{"deploymentURIsLocal": []string{shop}}}
	var err error
	if options.config == "" {
		if options.event != "" || options.files != "" || options.shipyard != "" {
			return scene{}, fmt.Errorf("--event, --files and --shipyard need --config")
		}
		shipyard, err := os.ReadFile("test/demo/shipyard.yaml")
		if err != nil {
			return scene{}, fmt.Errorf("read the shipyard: %w", err)
		}
		made.shipyard, made.eventType = string(shipyard), keptn.TypeOf("test", keptn.Triggered)
		made.files, err = readFiles("test/demo/project")
		return made, err
	}
	if options.files != "" {
		if made.files, err = readFiles(options.files); err != nil {
			return scene{}, err
		}
	}
	content, err := os.ReadFile(options.config)
	if err != nil {
		return scene{}, fmt.Errorf("read --config: %w", err)
	}
	made.files[jobconfig.Path] = content
	if made.eventType, err = firstEvent(content); err != nil {
		return scene{}, err
	}
	if options.event != "" {
		if err := made.readEvent(options.event); err != nil {
			return scene{}, err
		}
		made.stages = []string{made.stage}
	}
	if options.shipyard != "" {
		return made, made.readShipyard(options.shipyard)
	}
	task, phase, ok := keptn.ParseType(made.eventType)
	if !ok || phase != keptn.Triggered {
		return scene{}, fmt.Errorf("event type %q is not that of a task, sh.keptn.event.<task>.triggered", made.eventType)
	}
	made.shipyard = fmt.Sprintf(`apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata: {name: demo}
spec:
  stages:
    - name: %q
      sequences:
        - name: pipeline
          tasks: [{name: %q}]
`, made.stage, task)
	return made, nil
}

// firstEvent returns the type of the first event in a job/config.yaml. Job Executor itself reports mistakes of
// the file.
func firstEvent(content []byte) (string, error) {
	config := jobconfig.Parse(content)
	for _, action := range config.Actions {
		for _, event := range action.Events {
			return event.Name, nil
		}
	}
	if mistakes := config.All(); len(mistakes) > 0 {
		return "", mistakes
	}
	return "", fmt.Errorf("no action in --config names an event")
}

// readShipyard takes the stages from a shipyard, and the first sequence of the first of
// them.
func (s *scene) readShipyard(path string) error {
	content, err := os.ReadFile(path) //nolint:gosec // the person's own
	if err != nil {
		return fmt.Errorf("read --shipyard: %w", err)
	}
	var shipyard struct {
		Spec struct {
			Stages []struct {
				Name      string
				Sequences []struct{ Name string }
			}
		}
	}
	if err := yaml.Unmarshal(content, &shipyard); err != nil {
		return fmt.Errorf("read --shipyard: %w", err)
	}
	s.shipyard, s.stages = string(content), nil
	for _, stage := range shipyard.Spec.Stages {
		s.stages = append(s.stages, stage.Name)
	}
	if len(s.stages) == 0 || len(shipyard.Spec.Stages[0].Sequences) == 0 {
		return fmt.Errorf("--shipyard has no stage with a sequence")
	}
	s.stage, s.sequence = s.stages[0], shipyard.Spec.Stages[0].Sequences[0].Name
	return nil
}

// readEvent takes type, project, stage, service and data from an event.
func (s *scene) readEvent(path string) error {
	content, err := os.ReadFile(path) //nolint:gosec // the person's own
	if err != nil {
		return fmt.Errorf("read --event: %w", err)
	}
	if len(content) > maxEventBytes {
		return fmt.Errorf("the event in %s has more than %d bytes", path, maxEventBytes)
	}
	var event struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(content, &event); err != nil {
		return fmt.Errorf("read the event in %s: %w", path, err)
	}
	if event.Type != "" {
		s.eventType = event.Type
	}
	for name, target := range map[string]*string{"project": &s.project, "stage": &s.stage, "service": &s.service} {
		if value, ok := event.Data[name].(string); ok && value != "" {
			*target = value
		}
		delete(event.Data, name)
	}
	s.data = event.Data
	return nil
}

// walk gives each file below a root to a function.
func walk(root fs.FS, each func(path string, content []byte)) error {
	return fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if strings.HasPrefix(path, ".git/") || !entry.Type().IsRegular() {
			return nil
		}
		information, err := entry.Info()
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if information.Size() > maxFileBytes {
			return fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
		}
		content, err := fs.ReadFile(root, path)
		if err == nil {
			each(path, content)
		}
		return err
	})
}
