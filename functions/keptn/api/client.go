package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// maxAnswerBytes bounds a successful response of Keptn's API, and maxRefusalBytes any other.
	maxAnswerBytes  = 64 << 20
	maxRefusalBytes = 64 << 10
	// pageSize requests everything in one page: later pages repeat the first one's items (recording 47-paging).
	pageSize = 10000
)

// Endpoints are the base addresses of Keptn's services, without a slash at the end.
type Endpoints struct {
	// Events receives events over HTTP; empty if they are sent over NATS.
	Events string
	// ControlPlane is shipyard-controller's API.
	ControlPlane string
	// Resources is resource-service's API.
	Resources string
	// Datastore is mongodb-datastore's API. Without it, events that other services than shipyard-controller
	// trigger are unknown.
	Datastore string
	// Gateway is true if Resources is behind Keptn's api-gateway, which unescapes paths once more.
	Gateway bool
}

// GatewayEndpoints returns the endpoints behind Keptn's api-gateway, for clients outside its cluster. The
// address ends in /api.
func GatewayEndpoints(address string) Endpoints {
	address = strings.TrimSuffix(address, "/")
	return Endpoints{
		Events:       address + "/v1/event",
		ControlPlane: address + "/controlPlane/v1",
		Resources:    address + "/resource-service/v1",
		Datastore:    address + "/mongodb-datastore",
		Gateway:      true,
	}
}

// Client calls Keptn's API. go-utils' clients cannot be used: they disable TLS verification for the whole
// process.
type Client struct {
	Endpoints Endpoints
	// Token returns the current x-token; empty, or nil, inside Keptn's cluster.
	Token func() string
	// HTTP must not follow redirects (see NewHTTPClient).
	HTTP *http.Client
	// Source is the source of this installation's events, which identifies them.
	Source string
	// Logger logs incomplete listings and refused tokens; may be nil.
	Logger *slog.Logger

	// tokens stops requests with a token that Keptn refuses: after many wrong tokens Keptn answers even the right
	// one with 429. OAuth tokens are renewed automatically.
	tokens function.Breaker
	// contexts stops questions about a Keptn context that fail: each task and Job of the context asks separately,
	// and the Broker retries each. Other contexts may belong to other projects.
	contexts function.Breaker
	// left is what the last listing of each type left out.
	left sync.Map
}

// ErrTokenRefused means that Keptn refused the token a moment ago, and was not asked again.
var ErrTokenRefused = errors.New("Keptn refuses the API token")

// NewHTTPClient returns an HTTP client that follows no redirects: Go would send x-token to the host of the
// redirect.
func NewHTTPClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// StatusError is an error response of Keptn's API.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Message is the first line of the response.
	Message string
	// Request is the method and path.
	Request string
	// Own is true if Keptn itself answered, in the form of its errors, and not a proxy.
	Own bool
}

// Error returns the request, the status and the message.
func (s *StatusError) Error() string {
	return fmt.Sprintf("Keptn answered %s with %d: %s", s.Request, s.Code, s.Message)
}

// IsNotFound reports whether Keptn itself answered that something does not exist. A proxy's 404 says nothing
// about Keptn.
func IsNotFound(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Code == http.StatusNotFound && status.Own
}

// ErrForeign means that a successful response is not Keptn's. A proxy may have answered.
var ErrForeign = errors.New("not a response of Keptn")

// OpenTriggered lists the open triggered events of one exact type: those of uncompleted tasks,
// started or not, and those of lighthouse-service for open evaluations.
func (c *Client) OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error) {
	events, err := c.openTriggered(ctx, eventType, url.Values{})
	if err != nil || eventType != keptn.TypeOf(getSLITask, keptn.Triggered) {
		return events, err
	}
	direct, err := c.directTriggered(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask mongodb-datastore for the get-sli events of lighthouse-service: %w", err)
	}
	return append(events, direct...), nil
}

// IsOpen reports whether Keptn still holds a triggered event open.
func (c *Client) IsOpen(ctx context.Context, task keptn.Task) (bool, error) {
	events, err := c.openTriggered(ctx, keptn.TypeOf(task.Name, keptn.Triggered), url.Values{
		"project": {task.Project}, "eventID": {task.TriggeredID},
	})
	return len(events) > 0, err
}

// Send posts an event to Keptn. Keptn replaces its id and time, and answers with success even if it drops the
// event.
func (c *Client) Send(ctx context.Context, outgoing event.Event) error {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, c.Endpoints.Events, content, nil)
}

// Execution is one sequence of a Keptn context, with the events that Keptn has counted (GET
// /sequence-execution).
type Execution struct {
	Scope struct {
		Stage       string `json:"stage"`
		TriggeredID string `json:"triggeredId"`
	} `json:"scope"`
	Sequence struct {
		Name string `json:"name"`
	} `json:"sequence"`
	TriggeredAt lenientTime `json:"triggeredAt"`
	Status      struct {
		State         string         `json:"state"`
		PreviousTasks []previousTask `json:"previousTasks"`
		CurrentTask   struct {
			TriggeredID string `json:"triggeredID"`
			Events      []struct {
				EventType string `json:"eventType"`
				Source    string `json:"source"`
			} `json:"events"`
		} `json:"currentTask"`
	} `json:"status"`
}

// lenientTime is a time that only traces need. An invalid time is zero.
type lenientTime struct{ time.Time }

func (t *lenientTime) UnmarshalJSON(content []byte) error {
	if json.Unmarshal(content, &t.Time) != nil {
		t.Time = time.Time{}
	}
	return nil
}

type previousTask struct {
	TriggeredID string       `json:"triggeredID"`
	Name        string       `json:"name"`
	Result      keptn.Result `json:"result"`
	Status      keptn.Status `json:"status"`
}

// Executions returns the sequences of a Keptn context.
func (c *Client) Executions(ctx context.Context, project, keptnContext string) ([]Execution, error) {
	query := url.Values{"project": {project}, "keptnContext": {keptnContext}}
	var answer struct {
		Executions []Execution `json:"sequenceExecutions"`
	}
	err := c.call(ctx, http.MethodGet, c.Endpoints.ControlPlane+"/sequence-execution?"+query.Encode(), nil, &answer, "sequenceExecutions", "totalCount", "pageSize")
	return answer.Executions, err
}

// SequenceState returns the state of a Keptn context's sequence in Keptn's page: started, waiting, paused,
// finished, aborted, timedOut; empty if Keptn knows none. It is paused before the execution is (recording
// 44-pause-resume).
func (c *Client) SequenceState(ctx context.Context, project, keptnContext string) (string, error) {
	state, err := c.sequenceState(ctx, project, keptnContext)
	return state.State, err
}

// SequenceEndedAt returns the end of a task's sequence: the time of the latest event of the stage.
func (c *Client) SequenceEndedAt(ctx context.Context, task keptn.Task) (time.Time, error) {
	state, err := c.sequenceState(ctx, task.Project, task.Context)
	if err != nil {
		return time.Time{}, err
	}
	for _, stage := range state.Stages {
		if stage.Name == task.Stage && !stage.LatestEvent.Time.IsZero() && strings.HasSuffix(stage.LatestEvent.Type, "."+string(keptn.Finished)) {
			return stage.LatestEvent.Time.Time, nil
		}
	}
	return time.Time{}, fmt.Errorf("Keptn does not know when the sequence of task %s ended", task.TriggeredID)
}

type sequenceState struct {
	State  string `json:"state"`
	Stages []struct {
		Name        string `json:"name"`
		LatestEvent struct {
			Type string      `json:"type"`
			Time lenientTime `json:"time"`
		} `json:"latestEvent"`
	} `json:"stages"`
}

func (c *Client) sequenceState(ctx context.Context, project, keptnContext string) (sequenceState, error) {
	var answer struct {
		States []sequenceState `json:"states"`
	}
	address := c.Endpoints.ControlPlane + "/sequence/" + url.PathEscape(project) + "?" + url.Values{"keptnContext": {keptnContext}}.Encode()
	err := c.call(ctx, http.MethodGet, address, nil, &answer, "states", "totalCount")
	if err != nil || len(answer.States) == 0 {
		return sequenceState{}, err
	}
	return answer.States[0], nil
}

// RepositoryURL returns the URL of a project's Git repository without credentials, if Keptn knows the URL.
func (c *Client) RepositoryURL(ctx context.Context, project string) (string, error) {
	var answer models.Project
	address := c.Endpoints.ControlPlane + "/project/" + url.PathEscape(project)
	if err := c.call(ctx, http.MethodGet, address, nil, &answer, "projectName"); err != nil || answer.GitCredentials == nil {
		return "", err
	}
	parsed, err := url.Parse(answer.GitCredentials.RemoteURL)
	if err != nil {
		return "", errors.New("the URL of the project's Git repository is invalid") // without the URL: it may have credentials
	}
	parsed.User, parsed.RawQuery, parsed.Fragment = nil, "", ""
	return parsed.String(), nil
}

// Register registers an integration and returns its id. For a known name and namespace, Keptn keeps the
// subscriptions.
func (c *Client) Register(ctx context.Context, integration models.Integration) (string, error) {
	content, err := json.Marshal(integration)
	if err != nil {
		return "", fmt.Errorf("encode the integration: %w", err)
	}
	var answer struct {
		ID string `json:"id"`
	}
	err = c.call(ctx, http.MethodPost, c.Endpoints.ControlPlane+"/uniform/registration", content, &answer, "id")
	return answer.ID, err
}

// Ping renews an integration and returns it with its current subscriptions. The error satisfies IsNotFound if
// Keptn has forgotten the integration.
func (c *Client) Ping(ctx context.Context, id string) (models.Integration, error) {
	var integration models.Integration
	address := c.Endpoints.ControlPlane + "/uniform/registration/" + url.PathEscape(id) + "/ping"
	err := c.call(ctx, http.MethodPut, address, nil, &integration, "id")
	return integration, err
}

// Unregister removes an integration with its subscriptions. Unregistering an unknown integration succeeds.
func (c *Client) Unregister(ctx context.Context, id string) error {
	err := c.call(ctx, http.MethodDelete, c.Endpoints.ControlPlane+"/uniform/registration/"+url.PathEscape(id), nil, nil)
	if IsNotFound(err) {
		return nil
	}
	return err
}

// Log adds an entry to Keptn's log of an integration.
func (c *Client) Log(ctx context.Context, entry models.LogEntry) error {
	content, err := json.Marshal(map[string]any{"logs": []models.LogEntry{entry}})
	if err != nil {
		return fmt.Errorf("encode a log entry: %w", err)
	}
	return c.call(ctx, http.MethodPost, c.Endpoints.ControlPlane+"/log", content, nil)
}

// ResourceScope is the level of a file in a project's repository, and the commit. Without a service it is the
// stage's level, without a stage the project's.
type ResourceScope struct {
	Project     string
	Stage       string
	Service     string
	GitCommitID string
}

func (r ResourceScope) path() string {
	path := "/project/" + url.PathEscape(r.Project)
	if r.Stage != "" {
		path += "/stage/" + url.PathEscape(r.Stage)
		if r.Service != "" {
			path += "/service/" + url.PathEscape(r.Service)
		}
	}
	return path + "/resource"
}

// Resource returns the content of a file. The caller closes it. Reading a file that exceeds the limit of a
// response fails.
func (c *Client) Resource(ctx context.Context, scope ResourceScope, path string) (io.ReadCloser, error) {
	address := c.Endpoints.Resources + scope.path() + "/" + escapeFile(path, c.Endpoints.Gateway)
	if scope.GitCommitID != "" {
		address += "?" + url.Values{"gitCommitID": {scope.GitCommitID}}.Encode()
	}
	response, err := c.do(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	content, err := newContentReader(response.Body)
	if err != nil {
		_ = response.Body.Close()
		return nil, fmt.Errorf("read Keptn's response for %s: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{content, response.Body}, nil
}

// escapeFile escapes a file's path for resource-service, which unescapes the part of the URL once as a path and
// once as a query, where + is a blank. Keptn's gateway unescapes it once before. A path that is invariant under
// unescaping is escaped twice, one with % or + three times (recording 63-resources).
func escapeFile(path string, gateway bool) string {
	escaped := url.PathEscape(url.QueryEscape(path))
	if gateway && strings.ContainsAny(path, "%+") {
		escaped = url.PathEscape(escaped)
	}
	return escaped
}

// maxPages bounds the pages of a listing.
const maxPages = 100

// ResourcePaths lists the files of a scope without a leading slash. Keptn always lists the newest commit.
func (c *Client) ResourcePaths(ctx context.Context, scope ResourceScope) ([]string, error) {
	paths, known := []string{}, map[string]bool{}
	query := url.Values{"pageSize": {strconv.Itoa(pageSize)}}
	for range maxPages {
		var page struct {
			Resources   []models.Resource `json:"resources"`
			NextPageKey string            `json:"nextPageKey"`
		}
		if err := c.call(ctx, http.MethodGet, c.Endpoints.Resources+scope.path()+"?"+query.Encode(), nil, &page, "resources", "totalCount"); err != nil {
			return nil, err
		}
		for _, resource := range page.Resources {
			if resource.ResourceURI == nil {
				continue
			}
			if path := strings.TrimPrefix(*resource.ResourceURI, "/"); !known[path] {
				known[path] = true
				paths = append(paths, path)
			}
		}
		if page.NextPageKey == "" || page.NextPageKey == "0" {
			return paths, nil
		}
		query.Set("nextPageKey", page.NextPageKey)
	}
	return nil, fmt.Errorf("Keptn lists more than %d files", maxPages*pageSize)
}

// call makes a request and decodes the response, which must be a JSON object with at least one of the members.
// Keptn never answers with {}, null or HTML.
func (c *Client) call(ctx context.Context, method, address string, body []byte, answer any, members ...string) error {
	response, err := c.do(ctx, method, address, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err == nil && answer != nil {
		err = decode(content, answer, members)
	}
	if err != nil {
		return fmt.Errorf("read Keptn's response to %s %s: %w", method, response.Request.URL.Path, err)
	}
	return nil
}

func decode(content []byte, answer any, members []string) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(content, &object); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if !slices.ContainsFunc(members, func(member string) bool { _, ok := object[member]; return ok }) {
		return fmt.Errorf("%w: no %s", ErrForeign, strings.Join(members, " and no "))
	}
	return json.Unmarshal(content, answer)
}

// do makes a request and returns a successful response with a bounded body, which the caller closes.
func (c *Client) do(ctx context.Context, method, address string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("create a request to Keptn: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	token := c.token()
	if token != "" {
		request.Header.Set("x-token", token)
	}
	// Access to mongodb-datastore may be restricted on its own, see CheckDatastore.
	isGated := token != "" && (c.Endpoints.Datastore == "" || !strings.HasPrefix(address, c.Endpoints.Datastore))
	if isGated {
		if !c.tokens.Enter(token) {
			return nil, fmt.Errorf("call Keptn: %w", ErrTokenRefused)
		}
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call Keptn: %w", err)
	}
	if isGated && c.isFirstRefusal(token, response.StatusCode) && c.Logger != nil {
		c.Logger.ErrorContext(ctx, "Keptn refuses the API token; set KEPTN_API_TOKEN in Secret keptn to the one of Keptn's Secret keptn-api-token", "request", method+" "+request.URL.Path)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		defer func() { _ = response.Body.Close() }()
		content, err := io.ReadAll(io.LimitReader(response.Body, maxRefusalBytes))
		if err != nil {
			return nil, fmt.Errorf("read Keptn's response to %s %s: %w", method, request.URL.Path, err)
		}
		message, own := statusMessage(content)
		return nil, &StatusError{Code: response.StatusCode, Message: message, Request: method + " " + request.URL.Path, Own: own}
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswerBytes)
	return response, nil
}

func (c *Client) token() string {
	if c.Token == nil {
		return ""
	}
	return c.Token()
}

// isFirstRefusal records whether Keptn accepted a token, and returns true if it is the first refusal in a row.
func (c *Client) isFirstRefusal(token string, status int) bool {
	return status != http.StatusTooManyRequests && c.tokens.Leave(token, status != http.StatusUnauthorized)
}

// Ready returns an error while Keptn refuses the token.
func (c *Client) Ready(context.Context) error {
	if c.tokens.IsFailing(c.token()) {
		return ErrTokenRefused
	}
	return nil
}

// statusMessage returns the message of an error response: that of Keptn's JSON, if it is Keptn's own, or the
// first line.
func statusMessage(content []byte) (message string, own bool) {
	var failure models.Error
	if err := json.Unmarshal(content, &failure); err == nil && failure.GetMessage() != "" {
		return failure.GetMessage(), true
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	const longest = 200
	if len(line) > longest {
		line = line[:longest]
	}
	return strings.ToValidUTF8(line, "\uFFFD"), false
}

// maxPause bounds the pause after slow or failed requests.
const maxPause = 30 * time.Second

// Pace returns the pause after a request that took some time: a slow Keptn gets fewer requests.
func Pace(interval, took time.Duration) time.Duration {
	const factor = 5
	return min(max(interval, factor*took), max(maxPause, interval))
}

// Backoff returns the pause after a failed request: twice the last one, up to half a minute.
func Backoff(interval, pause time.Duration) time.Duration {
	return min(max(2*pause, time.Second), max(maxPause, interval))
}
