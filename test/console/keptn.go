package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	functions "github.com/job-executor/job-executor/functions/keptn"
)

// Keptn is a user's access to Keptn.
type Keptn struct {
	// Call makes a request to a path below Keptn's /api with a JSON body, and returns the response's body. It
	// returns an error unless the response is a success.
	Call func(ctx context.Context, method, path string, body []byte) ([]byte, error)
}

func (k Keptn) exchange(ctx context.Context, method, path string, body, answer any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	received, err := k.Call(ctx, method, path, content)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(received, answer); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", path, err)
	}
	return nil
}

// Shipyard returns a shipyard of one stage with one sequence "pipeline" of tasks.
func Shipyard(stage string, tasks ...string) string {
	text := "apiVersion: spec.keptn.sh/0.2.2\nkind: Shipyard\nmetadata: {name: shipyard}\n" +
		"spec:\n  stages:\n    - name: " + stage + "\n      sequences:\n        - name: pipeline\n          tasks:\n"
	for _, task := range tasks {
		text += "            - name: " + task + "\n"
	}
	return text
}

// CreateProject creates a project with one service, and uploads files at the service's level of each stage.
func (k Keptn) CreateProject(ctx context.Context, name, shipyard, service string, stages []string, files map[string][]byte) error {
	err := k.exchange(ctx, http.MethodPost, "/controlPlane/v1/project", map[string]string{
		"name": name, "shipyard": base64.StdEncoding.EncodeToString([]byte(shipyard)),
	}, nil)
	if err != nil {
		return err
	}
	return k.AddService(ctx, name, service, stages, files)
}

// AddService adds a service to a project, and uploads files at its level of each stage.
func (k Keptn) AddService(ctx context.Context, project, service string, stages []string, files map[string][]byte) error {
	if err := k.exchange(ctx, http.MethodPost, "/controlPlane/v1/project/"+project+"/service", map[string]string{"serviceName": service}, nil); err != nil {
		return err
	}
	var resources []map[string]string
	for path, content := range files {
		resources = append(resources, map[string]string{"resourceURI": path, "resourceContent": base64.StdEncoding.EncodeToString(content)})
	}
	for _, stage := range stages {
		path := fmt.Sprintf("/resource-service/v1/project/%s/stage/%s/service/%s/resource", project, stage, service)
		if err := k.exchange(ctx, http.MethodPost, path, map[string]any{"resources": resources}, nil); err != nil {
			return err
		}
	}
	return nil
}

// SetFaults makes Keptn for tests count events up to a lag late, and be down for a time. It returns the number
// of other clients' requests.
func (k Keptn) SetFaults(ctx context.Context, lag, away time.Duration) (requests int, err error) {
	var answer struct{ Requests int }
	query := url.Values{"lag": {lag.String()}, "away": {away.String()}}
	err = k.exchange(ctx, http.MethodPost, "/faults?"+query.Encode(), nil, &answer)
	return answer.Requests, err
}

// Trigger triggers a sequence and returns its Keptn context.
func (k Keptn) Trigger(ctx context.Context, project, stage, sequence, service string, data map[string]any) (string, error) {
	return k.Send(ctx, "sh.keptn.event."+stage+"."+sequence+".triggered", project, stage, service, data)
}

// Send sends an event of any type like a user, and returns its Keptn context.
func (k Keptn) Send(ctx context.Context, eventType, project, stage, service string, data map[string]any) (string, error) {
	all := map[string]any{"project": project, "stage": stage, "service": service}
	for name, value := range data {
		all[name] = value
	}
	var answer struct {
		KeptnContext string `json:"keptnContext"`
	}
	err := k.exchange(ctx, http.MethodPost, "/v1/event", map[string]any{
		"type": eventType, "source": "user", "specversion": "1.0",
		"contenttype": "application/json", "data": all,
	}, &answer)
	return answer.KeptnContext, err
}

// Integration is a registration with Keptn.
type Integration struct {
	ID, Name      string
	Subscriptions []struct{ Event string }
}

// Integration returns the registration of a name, nil if there is none.
func (k Keptn) Integration(ctx context.Context, name string) (*Integration, error) {
	var integrations []Integration
	if err := k.exchange(ctx, http.MethodGet, "/controlPlane/v1/uniform/registration", nil, &integrations); err != nil {
		return nil, err
	}
	for index := range integrations {
		if integrations[index].Name == name {
			return &integrations[index], nil
		}
	}
	return nil, nil
}

// Unregister deletes the registration of a name, if there is one. Otherwise the next registration would get its
// subscriptions.
func (k Keptn) Unregister(ctx context.Context, name string) error {
	registered, err := k.Integration(ctx, name)
	if err != nil || registered == nil {
		return err
	}
	_, err = k.Call(ctx, http.MethodDelete, "/controlPlane/v1/uniform/registration/"+registered.ID, nil)
	return err
}

// Subscribe adds a subscription to an integration like Keptn's web page.
func (k Keptn) Subscribe(ctx context.Context, integration, eventType string) error {
	known, err := k.Integration(ctx, integration)
	if err != nil {
		return err
	}
	if known == nil {
		return fmt.Errorf("integration %s is not registered", integration)
	}
	path := "/controlPlane/v1/uniform/registration/" + known.ID + "/subscription"
	return k.exchange(ctx, http.MethodPost, path, map[string]any{"event": eventType, "filter": map[string]any{}}, nil)
}

// ErrorsOf returns the messages in Keptn's log of an integration for triggered events.
func (k Keptn) ErrorsOf(ctx context.Context, triggeredIDs ...string) ([]string, error) {
	var answer struct {
		Logs []struct{ Message, TriggeredID, IntegrationID string }
	}
	if err := k.exchange(ctx, http.MethodGet, "/controlPlane/v1/log", nil, &answer); err != nil {
		return nil, err
	}
	var messages []string
	for _, entry := range answer.Logs {
		if slices.Contains(triggeredIDs, entry.TriggeredID) && entry.IntegrationID != "" {
			messages = append(messages, entry.Message)
		}
	}
	return messages, nil
}

// Abort aborts the sequence of a Keptn context.
func (k Keptn) Abort(ctx context.Context, project, keptnContext string) error {
	return k.exchange(ctx, http.MethodPost, "/controlPlane/v1/sequence/"+project+"/"+keptnContext+"/control", map[string]string{"state": "abort"}, nil)
}

// Event is an event on Keptn's stream.
type Event struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Source      string `json:"source"`
	Time        string `json:"time"`
	TriggeredID string `json:"triggeredid"`
	Data        struct {
		Status  string         `json:"status"`
		Result  string         `json:"result"`
		Message string         `json:"message"`
		Test    map[string]any `json:"test"`
		// Labels include those of the task.
		Labels map[string]string `json:"labels"`
	} `json:"data"`
	// Raw is the whole event.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON also keeps the raw event.
func (e *Event) UnmarshalJSON(content []byte) error {
	type plain Event
	e.Raw = append([]byte{}, content...)
	return json.Unmarshal(content, (*plain)(e))
}

// Events returns the events of a Keptn context, the oldest first.
func (k Keptn) Events(ctx context.Context, keptnContext string) ([]Event, error) {
	var answer struct {
		Events []Event `json:"events"`
	}
	path := "/mongodb-datastore/event?" + url.Values{"keptnContext": {keptnContext}}.Encode()
	if err := k.exchange(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(answer.Events))
	for index := len(answer.Events) - 1; index >= 0; index-- {
		events = append(events, answer.Events[index])
	}
	return events, nil
}

// Ours returns Job Executor's events.
func Ours(events []Event) []Event {
	var ours []Event
	for _, event := range events {
		if strings.HasPrefix(event.Source, functions.Source) {
			ours = append(ours, event)
		}
	}
	return ours
}

// State returns the state of a Keptn context's sequence and of its stage.
func (k Keptn) State(ctx context.Context, project, keptnContext string) (sequence, stage string, err error) {
	var answer struct {
		States []struct {
			State  string `json:"state"`
			Stages []struct {
				State string `json:"state"`
			} `json:"stages"`
		} `json:"states"`
	}
	path := "/controlPlane/v1/sequence/" + project + "?" + url.Values{"keptnContext": {keptnContext}}.Encode()
	if err := k.exchange(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return "", "", err
	}
	if len(answer.States) == 0 || len(answer.States[0].Stages) == 0 {
		return "", "", nil
	}
	return answer.States[0].State, answer.States[0].Stages[0].State, nil
}

// Counted returns the number of counted events for the current task of a Keptn context. Keptn stores an event
// before it counts it.
func (k Keptn) Counted(ctx context.Context, project, keptnContext string) (int, error) {
	var answer struct {
		SequenceExecutions []struct {
			Status struct {
				CurrentTask struct{ Events []json.RawMessage }
			}
		}
	}
	path := "/controlPlane/v1/sequence-execution?" + url.Values{"project": {project}, "keptnContext": {keptnContext}}.Encode()
	if err := k.exchange(ctx, http.MethodGet, path, nil, &answer); err != nil || len(answer.SequenceExecutions) == 0 {
		return 0, err
	}
	return len(answer.SequenceExecutions[0].Status.CurrentTask.Events), nil
}

// TraceID returns the trace id of a Keptn context.
func TraceID(keptnContext string) string { return strings.ReplaceAll(keptnContext, "-", "") }
