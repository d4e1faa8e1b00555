package keptn

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"
)

const (
	// maxAnswerBytes bounds every answer of Keptn's API that is read.
	maxAnswerBytes = 64 << 20
	// pageSize asks for everything in one page: the pages after the first
	// repeat its items (recording 47-paging).
	pageSize = 10000
)

// Endpoints are the base addresses of Keptn's services, without a slash at the end.
type Endpoints struct {
	// Events takes events over HTTP; empty where they go over NATS.
	Events string
	// ControlPlane is shipyard-controller's API.
	ControlPlane string
	// Resources is resource-service's API.
	Resources string
}

// GatewayEndpoints are the endpoints behind Keptn's api-gateway, as they are
// seen from outside its cluster. The address ends in /api.
func GatewayEndpoints(address string) Endpoints {
	address = strings.TrimSuffix(address, "/")
	return Endpoints{
		Events:       address + "/v1/event",
		ControlPlane: address + "/controlPlane/v1",
		Resources:    address + "/resource-service/v1",
	}
}

// Client calls Keptn's API. It is used in place of go-utils' clients since those
// switch TLS verification off for the whole process.
type Client struct {
	Endpoints Endpoints
	// Token is sent as x-token; empty inside Keptn's cluster.
	Token string
	// HTTP makes the calls; it must not follow redirects (see NewHTTPClient).
	HTTP *http.Client
}

// NewHTTPClient returns an HTTP client for a Client. It follows no redirects:
// Go would send x-token along, to whatever host the answer names.
func NewHTTPClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// StatusError is an answer of Keptn's API that is no success.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Message is what Keptn said, at most one line of it.
	Message string
	// Request names the method and path.
	Request string
}

// Error tells which request failed, and what Keptn said.
func (err *StatusError) Error() string {
	return fmt.Sprintf("Keptn answered %s with %d: %s", err.Request, err.Code, err.Message)
}

// IsNotFound says whether an error is Keptn's answer that something does not exist.
func IsNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// OpenTriggered lists the triggered events of one exact type that Keptn holds
// open: those of tasks which have not completed, started or not.
func (client *Client) OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error) {
	return client.openTriggered(ctx, eventType, url.Values{})
}

// IsOpen says whether Keptn still holds a triggered event open.
func (client *Client) IsOpen(ctx context.Context, task Task) (bool, error) {
	events, err := client.openTriggered(ctx, TypeOf(task.Name, Triggered), url.Values{
		"project": {task.Project}, "eventID": {task.TriggeredID},
	})
	if IsNotFound(err) {
		return false, nil // the project was deleted
	}
	return len(events) > 0, err
}

func (client *Client) openTriggered(ctx context.Context, eventType string, query url.Values) ([]event.Event, error) {
	query.Set("pageSize", strconv.Itoa(pageSize))
	address := client.Endpoints.ControlPlane + "/event/triggered/" + url.PathEscape(eventType) + "?" + query.Encode()
	var answer struct {
		Events []json.RawMessage `json:"events"`
	}
	if err := client.call(ctx, http.MethodGet, address, nil, &answer); err != nil {
		return nil, err
	}
	events := make([]event.Event, 0, len(answer.Events))
	for _, content := range answer.Events {
		listed, err := DecodeEvent(content)
		if err != nil {
			return nil, err
		}
		events = append(events, listed)
	}
	return events, nil
}

// Send gives Keptn an event over HTTP. Keptn replaces its id and time, and
// answers with success to events that it then drops.
func (client *Client) Send(ctx context.Context, outgoing event.Event) error {
	content, err := EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	return client.call(ctx, http.MethodPost, client.Endpoints.Events, content, nil)
}

// Execution is one sequence of a Keptn context, as far as it tells what Keptn
// has counted (GET /sequence-execution).
type Execution struct {
	Status struct {
		State         string `json:"state"`
		PreviousTasks []struct {
			TriggeredID string `json:"triggeredID"`
		} `json:"previousTasks"`
		CurrentTask struct {
			TriggeredID string `json:"triggeredID"`
			Events      []struct {
				EventType string `json:"eventType"`
				Source    string `json:"source"`
			} `json:"events"`
		} `json:"currentTask"`
	} `json:"status"`
}

// Executions returns the sequences of a Keptn context.
func (client *Client) Executions(ctx context.Context, project, keptnContext string) ([]Execution, error) {
	query := url.Values{"project": {project}, "keptnContext": {keptnContext}}
	var answer struct {
		Executions []Execution `json:"sequenceExecutions"`
	}
	err := client.call(ctx, http.MethodGet, client.Endpoints.ControlPlane+"/sequence-execution?"+query.Encode(), nil, &answer)
	return answer.Executions, err
}

// Register makes an integration known to Keptn and returns its id. For a name
// and namespace that Keptn knows it keeps the subscriptions it has.
func (client *Client) Register(ctx context.Context, integration models.Integration) (string, error) {
	content, err := json.Marshal(integration)
	if err != nil {
		return "", fmt.Errorf("encoding the integration: %w", err)
	}
	var answer struct {
		ID string `json:"id"`
	}
	err = client.call(ctx, http.MethodPost, client.Endpoints.ControlPlane+"/uniform/registration", content, &answer)
	return answer.ID, err
}

// Ping tells Keptn that an integration is alive, and returns it with the
// subscriptions it has now. The error is one of IsNotFound when Keptn has
// forgotten the integration.
func (client *Client) Ping(ctx context.Context, id string) (models.Integration, error) {
	var integration models.Integration
	address := client.Endpoints.ControlPlane + "/uniform/registration/" + url.PathEscape(id) + "/ping"
	err := client.call(ctx, http.MethodPut, address, nil, &integration)
	return integration, err
}

// ResourceScope says where in a project's repository a file is, and at which
// commit. Without a service it is the stage's level, without a stage the project's.
type ResourceScope struct {
	Project     string
	Stage       string
	Service     string
	GitCommitID string
}

func (scope ResourceScope) path() string {
	path := "/project/" + url.PathEscape(scope.Project)
	if scope.Stage != "" {
		path += "/stage/" + url.PathEscape(scope.Stage)
		if scope.Service != "" {
			path += "/service/" + url.PathEscape(scope.Service)
		}
	}
	return path + "/resource"
}

// Resource returns the content of one file. Its path is escaped twice, since
// Keptn's gateway unescapes it once; resource-service itself takes both
// (recording 63-resources).
func (client *Client) Resource(ctx context.Context, scope ResourceScope, path string) ([]byte, error) {
	address := client.Endpoints.Resources + scope.path() + "/" + url.PathEscape(url.PathEscape(path))
	if scope.GitCommitID != "" {
		address += "?" + url.Values{"gitCommitID": {scope.GitCommitID}}.Encode()
	}
	var answer models.Resource
	if err := client.call(ctx, http.MethodGet, address, nil, &answer); err != nil {
		return nil, err
	}
	content, err := base64.StdEncoding.DecodeString(answer.ResourceContent)
	if err != nil {
		return nil, fmt.Errorf("decoding the content of %s: %w", path, err)
	}
	return content, nil
}

// ResourcePaths lists the files of a scope, without a leading slash. Keptn lists
// the newest commit whatever commit is asked for.
func (client *Client) ResourcePaths(ctx context.Context, scope ResourceScope) ([]string, error) {
	address := client.Endpoints.Resources + scope.path() + "?" + url.Values{"pageSize": {strconv.Itoa(pageSize)}}.Encode()
	var answer struct {
		Resources []models.Resource `json:"resources"`
	}
	if err := client.call(ctx, http.MethodGet, address, nil, &answer); err != nil {
		return nil, err
	}
	paths := make([]string, 0, len(answer.Resources))
	for _, resource := range answer.Resources {
		if resource.ResourceURI != nil {
			paths = append(paths, strings.TrimPrefix(*resource.ResourceURI, "/"))
		}
	}
	return paths, nil
}

func (client *Client) call(ctx context.Context, method, address string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making a request to Keptn: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if client.Token != "" {
		request.Header.Set("x-token", client.Token)
	}
	response, err := client.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("calling Keptn: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return fmt.Errorf("reading Keptn's answer to %s %s: %w", method, request.URL.Path, err)
	}
	if len(content) > maxAnswerBytes {
		return fmt.Errorf("Keptn's answer to %s %s has more than %d bytes", method, request.URL.Path, maxAnswerBytes)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return &StatusError{Code: response.StatusCode, Message: statusMessage(content), Request: method + " " + request.URL.Path}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("decoding Keptn's answer to %s %s: %w", method, request.URL.Path, err)
	}
	return nil
}

// statusMessage is what Keptn says in an error's body: the message of its JSON,
// or the first line of what else came.
func statusMessage(content []byte) string {
	var failure models.Error
	if err := json.Unmarshal(content, &failure); err == nil && failure.GetMessage() != "" {
		return failure.GetMessage()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	const longest = 200
	if len(line) > longest {
		line = line[:longest]
	}
	return line
}
