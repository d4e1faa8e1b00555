package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Answer is an event of a sequence with a result.
type Answer struct {
	At      time.Time
	Type    string
	Project string
	Status  keptn.Status
	Result  keptn.Result
	Message string
}

// Answers returns the finished events of a Keptn context, of tasks and of sequences, the oldest first.
func (c *Client) Answers(ctx context.Context, keptnContext string) ([]Answer, error) {
	events, err := c.events(ctx, keptnContext)
	if err != nil {
		return nil, err
	}
	var answers []Answer
	for _, stored := range events {
		if !strings.HasSuffix(stored.Type(), "."+string(keptn.Finished)) {
			continue
		}
		var data struct {
			Project string
			Status  keptn.Status
			Result  keptn.Result
			Message string
		}
		if err := stored.DataAs(&data); err != nil {
			continue // an event of another integration
		}
		answers = append(answers, Answer{stored.Time(), stored.Type(), data.Project, data.Status, data.Result, data.Message})
	}
	return answers, nil
}

// Sequence is a sequence that was triggered.
type Sequence struct {
	Context string
	// Name is the sequence's name in the shipyard.
	Name, Project, Stage, Service string
	// Data is the data of the event that triggered it.
	Data json.RawMessage
}

// Sequence returns the first sequence of a Keptn context, from the event that triggered it.
func (c *Client) Sequence(ctx context.Context, keptnContext string) (Sequence, error) {
	events, err := c.events(ctx, keptnContext)
	if err != nil {
		return Sequence{}, err
	}
	for _, stored := range events {
		name, ok := strings.CutSuffix(stored.Type(), "."+string(keptn.Triggered))
		if !ok {
			continue
		}
		stage, name, isSequence := strings.Cut(strings.TrimPrefix(name, keptn.TypePrefix), ".")
		if !isSequence {
			continue // a task's
		}
		found := Sequence{Context: keptnContext, Name: name, Stage: stage, Data: stored.Data()}
		var data struct{ Project, Service string }
		if err := stored.DataAs(&data); err != nil {
			return Sequence{}, fmt.Errorf("read the event that triggered the sequence: %w", err)
		}
		found.Project, found.Service = data.Project, data.Service
		return found, nil
	}
	return Sequence{}, fmt.Errorf("Keptn has no event that triggered a sequence of context %s", keptnContext)
}

// Trigger triggers a sequence again, and returns the new Keptn context.
func (c *Client) Trigger(ctx context.Context, sequence Sequence) (string, error) {
	triggered := event.New()
	triggered.SetID(uuid.NewString())
	triggered.SetSource(c.Source)
	triggered.SetType(keptn.TypePrefix + sequence.Stage + "." + sequence.Name + "." + string(keptn.Triggered))
	triggered.SetExtension(keptn.SpecVersionExtension, keptn.SpecVersion)
	if err := triggered.SetData(event.ApplicationJSON, sequence.Data); err != nil {
		return "", fmt.Errorf("encode the sequence's data: %w", err)
	}
	content, err := keptn.EncodeEvent(triggered)
	if err != nil {
		return "", err
	}
	var answer struct {
		KeptnContext string `json:"keptnContext"`
	}
	err = c.call(ctx, http.MethodPost, c.Endpoints.Events, content, &answer, "keptnContext")
	return answer.KeptnContext, err
}

// Abort aborts the sequence of a Keptn context.
func (c *Client) Abort(ctx context.Context, project, keptnContext string) error {
	address := c.Endpoints.ControlPlane + "/sequence/" + url.PathEscape(project) + "/" + url.PathEscape(keptnContext) + "/control"
	return c.call(ctx, http.MethodPost, address, []byte(`{"state":"abort"}`), nil)
}

// Integrations returns the integrations of a name.
func (c *Client) Integrations(ctx context.Context, name string) ([]models.Integration, error) {
	response, err := c.do(ctx, http.MethodGet, c.Endpoints.ControlPlane+"/uniform/registration?"+url.Values{"name": {name}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read Keptn's integrations: %w", err)
	}
	var integrations []models.Integration
	if err := json.Unmarshal(content, &integrations); err != nil {
		return nil, fmt.Errorf("read Keptn's integrations: %w: %w", ErrForeign, err)
	}
	return slices.DeleteFunc(integrations, func(found models.Integration) bool { return found.Name != name }), nil
}

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// Configurations returns the file at a path in all projects, stages and services, by project/stage/service.
func (c *Client) Configurations(ctx context.Context, path string) (map[string][]byte, error) {
	var answer models.Projects
	if err := c.call(ctx, http.MethodGet, c.Endpoints.ControlPlane+"/project?"+url.Values{"pageSize": {strconv.Itoa(pageSize)}}.Encode(), nil, &answer, "projects", "totalCount"); err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for _, project := range answer.Projects {
		scopes := []ResourceScope{{Project: project.ProjectName}}
		for _, stage := range project.Stages {
			scopes = append(scopes, ResourceScope{Project: project.ProjectName, Stage: stage.StageName})
			for _, service := range stage.Services {
				scopes = append(scopes, ResourceScope{Project: project.ProjectName, Stage: stage.StageName, Service: service.ServiceName})
			}
		}
		for _, scope := range scopes {
			content, err := c.configuration(ctx, scope, path)
			if err != nil {
				return nil, fmt.Errorf("read %s of project %s, stage %s, service %s: %w", path, scope.Project, scope.Stage, scope.Service, err)
			}
			if content != nil {
				found[strings.TrimRight(scope.Project+"/"+scope.Stage+"/"+scope.Service, "/")] = content
			}
		}
	}
	return found, nil
}

// configuration returns the content of a scope's own file, nil if it does not exist.
func (c *Client) configuration(ctx context.Context, scope ResourceScope, path string) ([]byte, error) {
	body, err := c.Resource(ctx, scope, path)
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return io.ReadAll(io.LimitReader(body, maxConfigBytes))
}

// LogEntries returns Keptn's log about a Keptn context, the oldest entry first.
func (c *Client) LogEntries(ctx context.Context, keptnContext string) ([]models.LogEntry, error) {
	var answer models.GetLogsResponse
	query := url.Values{"pageSize": {strconv.Itoa(pageSize)}} // Keptn cannot filter by context
	if err := c.call(ctx, http.MethodGet, c.Endpoints.ControlPlane+"/log?"+query.Encode(), nil, &answer, "logs"); err != nil {
		return nil, err
	}
	entries := slices.DeleteFunc(answer.Logs, func(entry models.LogEntry) bool { return entry.KeptnContext != keptnContext })
	slices.SortStableFunc(entries, func(one, other models.LogEntry) int { return one.Time.Compare(other.Time) })
	return entries, nil
}

// maxEventPages bounds the pages of a context's events.
const maxEventPages = 20

// events returns all events of a Keptn context that mongodb-datastore has stored, the oldest first.
func (c *Client) events(ctx context.Context, keptnContext string) ([]event.Event, error) {
	var events []event.Event
	query := url.Values{"keptnContext": {keptnContext}}
	for range maxEventPages {
		page, next, err := c.storedPage(ctx, query)
		if err != nil {
			return nil, err
		}
		events = append(events, page...)
		if next == "" {
			break
		}
		query.Set("nextPageKey", next)
	}
	slices.SortStableFunc(events, func(one, other event.Event) int { return one.Time().Compare(other.Time()) })
	return events, nil
}
