package scene

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
)

// Scene is a project and its sequence.
type Scene struct {
	Project, Stage, Service, Sequence string
	// Stages are all stages of the shipyard, and Stage is the first.
	Stages   []string
	Shipyard string
	// EventType is the type of the task's triggered event.
	EventType string
	// Data is the data of the event without project, stage and service.
	Data map[string]any
	// Files are uploaded at the service's level.
	Files map[string][]byte
}

// The limits of a person's event and files.
const (
	maxEventBytes = 1 << 20
	maxFileBytes  = 64 << 20
)

// New returns the default project, whose load test has a shop as its target, or the project of the options.
func New(options Options, shop string) (Scene, error) {
	created := Scene{Project: "demo", Stage: "production", Stages: []string{"production"}, Service: "shop", Sequence: "pipeline", Files: map[string][]byte{}}
	created.Data = map[string]any{"deployment": map[string]any{"deploymentURIsLocal": []string{shop}}}
	var err error
	if options.Config == "" {
		if options.Event != "" || options.Files != "" || options.Shipyard != "" {
			return Scene{}, fmt.Errorf("--event, --files and --shipyard need --config")
		}
		shipyard, err := os.ReadFile("test/demo/shipyard.yaml")
		if err != nil {
			return Scene{}, fmt.Errorf("read the shipyard: %w", err)
		}
		created.Shipyard, created.EventType = string(shipyard), keptn.TypeOf("test", keptn.Triggered)
		created.Files, err = readFiles("test/demo/project")
		return created, err
	}
	if options.Files != "" {
		if created.Files, err = readFiles(options.Files); err != nil {
			return Scene{}, err
		}
	}
	content, err := os.ReadFile(options.Config)
	if err != nil {
		return Scene{}, fmt.Errorf("read --config: %w", err)
	}
	created.Files[jobconfig.Path] = content
	if created.EventType, err = firstEvent(content); err != nil {
		return Scene{}, err
	}
	if options.Event != "" {
		if err := created.readEvent(options.Event); err != nil {
			return Scene{}, err
		}
		created.Stages = []string{created.Stage}
	}
	if options.Shipyard != "" {
		return created, created.readShipyard(options.Shipyard)
	}
	task, phase, ok := keptn.ParseType(created.EventType)
	if !ok || phase != keptn.Triggered {
		return Scene{}, fmt.Errorf("event type %q is not that of a task, sh.keptn.event.<task>.triggered", created.EventType)
	}
	created.Shipyard = fmt.Sprintf(`apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata: {name: demo}
spec:
  stages:
    - name: %q
      sequences:
        - name: pipeline
          tasks: [{name: %q}]
`, created.Stage, task)
	return created, nil
}

// firstEvent returns a type of the first event in a job/config.yaml. Job Executor itself reports mistakes of
// the file.
func firstEvent(content []byte) (string, error) {
	config := jobconfig.Parse(content)
	for _, action := range config.Actions {
		for _, event := range action.Events {
			return typeOf(event.Name), nil
		}
	}
	if mistakes := config.All(); len(mistakes) > 0 {
		return "", mistakes
	}
	return "", fmt.Errorf("no action in --config names an event")
}

// typeOf returns a type of a task's event that an event's name matches: names are regular expressions, such as test.triggered. If a name
// only matches types of uncommon tasks, typeOf returns the name.
func typeOf(name string) string {
	expression, err := regexp.Compile(name)
	if err != nil {
		return name
	}
	candidates := []string{name, keptn.TypePrefix + name, name + "." + string(keptn.Triggered)}
	for _, task := range []string{name, "test", "deployment", "release", "rollback", "action", "get-sli", "evaluation"} {
		candidates = append(candidates, keptn.TypeOf(task, keptn.Triggered))
	}
	for _, candidate := range candidates {
		if _, phase, ok := keptn.ParseType(candidate); ok && phase == keptn.Triggered && expression.MatchString(candidate) {
			return candidate
		}
	}
	return name
}

// readShipyard returns the stages of a shipyard, and the first sequence of the first stage.
func (s *Scene) readShipyard(path string) error {
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
	s.Shipyard, s.Stages = string(content), nil
	for _, stage := range shipyard.Spec.Stages {
		s.Stages = append(s.Stages, stage.Name)
	}
	if len(s.Stages) == 0 || len(shipyard.Spec.Stages[0].Sequences) == 0 {
		return fmt.Errorf("--shipyard has no stage with a sequence")
	}
	s.Stage, s.Sequence = s.Stages[0], shipyard.Spec.Stages[0].Sequences[0].Name
	return nil
}

// readEvent reads type, project, stage, service and data of an event.
func (s *Scene) readEvent(path string) error {
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
		s.EventType = event.Type
	}
	for name, target := range map[string]*string{"project": &s.Project, "stage": &s.Stage, "service": &s.Service} {
		if value, ok := event.Data[name].(string); ok && value != "" {
			*target = value
		}
		delete(event.Data, name)
	}
	s.Data = event.Data
	return nil
}

// walk calls a function with each file below a root.
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

// readFiles reads the files below a directory, by relative path.
func readFiles(directory string) (map[string][]byte, error) {
	files := map[string][]byte{}
	root := os.DirFS(directory)
	err := walk(root, func(path string, content []byte) { files[filepath.ToSlash(path)] = content })
	if err != nil {
		return nil, fmt.Errorf("read the files in %s: %w", directory, err)
	}
	return files, nil
}
