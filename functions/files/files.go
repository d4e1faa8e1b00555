package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// The gateway's paths.
//
//	POST /grant?namespace       with the event of a task as the bridge has signed it, in
//	                            binary mode, and the namespaces in which its Jobs may be
//	GET  /resource?level&path   with a grant; without a path the paths of all files
//	                            are returned, as a JSON list
//
// Both are with a service account token: a grant is of no use to who only finds it.
const (
	GrantPath          = "/grant"
	ResourcePath       = "/resource"
	LevelParameter     = "level"
	PathParameter      = "path"
	NamespaceParameter = "namespace"
)

// Level is a level of Keptn's project files.
type Level string

// The levels.
const (
	ServiceLevel Level = "service"
	StageLevel   Level = "stage"
	ProjectLevel Level = "project"
)

// Levels returns all levels in lookup order. The first one with the file counts.
func Levels() []Level { return []Level{ServiceLevel, StageLevel, ProjectLevel} }

const (
	// TokenAudience is the audience of accepted service account tokens.
	TokenAudience = "job-executor-bridge"
	// GrantHeader is the header of a request that holds the grant.
	GrantHeader = "Grant"
	// StartedHeader is a grant's header, set if Keptn has a started event of ours for the task.
	StartedHeader = "Task-Started"
	// MaxFileBytes bounds a file, and maxPathsBytes the list of all paths.
	MaxFileBytes  = 64 << 20
	maxPathsBytes = 16 << 20
	maxGrantBytes = 16 << 10
	// CallTimeout bounds one call of the gateway. It is longer than the gateway waits for Keptn.
	CallTimeout = 50 * time.Second
)

// ErrNotFound means that Keptn does not have the file.
var ErrNotFound = errors.New("not found")

// ErrOver means that Keptn no longer waits for the task.
var ErrOver = errors.New("Keptn no longer waits for the task")

// StatusError is any other error response of the gateway.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Message is the response's text.
	Message string
}

// Error returns the status and the message.
func (s *StatusError) Error() string {
	return fmt.Sprintf("the bridge answered %d: %s", s.Code, s.Message)
}

// IsTemporary reports whether a retry may help.
func (s *StatusError) IsTemporary() bool {
	return s.Code >= http.StatusInternalServerError || s.Code == http.StatusTooManyRequests
}

// Grant is the bridge's permission to read a task's files.
type Grant struct {
	// Token is sent with each request for a file.
	Token string
	// Started is true if Keptn has a started event of ours for the task. Its run has begun, and must not begin
	// again even if its Jobs are gone.
	Started bool
}

// Client calls the gateway.
type Client struct {
	// URL is the bridge's address, without a slash at the end.
	URL string
	// TokenFile has a service account token for the audience. It is read for every call, because Kubernetes
	// rotates it.
	TokenFile string
	HTTP      *http.Client
}

// Grant returns a grant for the task of an event, whose Jobs may run in these namespaces. It returns ErrOver if
// Keptn no longer waits for the task.
func (c *Client) Grant(ctx context.Context, received event.Event, namespaces []string) (Grant, error) {
	request, err := c.request(ctx, http.MethodPost, GrantPath+"?"+url.Values{NamespaceParameter: namespaces}.Encode())
	if err != nil {
		return Grant{}, err
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&received), request); err != nil {
		return Grant{}, fmt.Errorf("encode event %s: %w", received.ID(), err)
	}
	content, header, err := c.call(request, maxGrantBytes)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusGone {
		return Grant{}, ErrOver
	}
	if err != nil {
		return Grant{}, fmt.Errorf("get a grant: %w", err)
	}
	return Grant{Token: string(content), Started: header.Get(StartedHeader) != ""}, nil
}

// File returns the content of a file, or ErrNotFound. If the file has more than maxBytes, it returns maxBytes+1
// bytes.
func (c *Client) File(ctx context.Context, grant string, level Level, path string, maxBytes int64) ([]byte, error) {
	return c.resource(ctx, grant, url.Values{LevelParameter: {string(level)}, PathParameter: {path}}, maxBytes)
}

// Paths returns the paths of all files at a level.
func (c *Client) Paths(ctx context.Context, grant string, level Level) ([]string, error) {
	content, err := c.resource(ctx, grant, url.Values{LevelParameter: {string(level)}}, maxPathsBytes)
	if err != nil {
		return nil, err
	}
	var paths []string
	if err := json.Unmarshal(content, &paths); err != nil {
		return nil, fmt.Errorf("read the list of files: %w", err)
	}
	return paths, nil
}

func (c *Client) resource(ctx context.Context, grant string, query url.Values, maxBytes int64) ([]byte, error) {
	request, err := c.request(ctx, http.MethodGet, ResourcePath+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	request.Header.Set(GrantHeader, grant)
	content, _, err := c.call(request, maxBytes)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusNotFound {
		return nil, ErrNotFound
	}
	return content, err
}

func (c *Client) request(ctx context.Context, method, path string) (*http.Request, error) {
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the token for the bridge: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.URL+path, nil)
	if err != nil {
		return nil, fmt.Errorf("create a request to the bridge: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return request, nil
}

func (c *Client) call(request *http.Request, maxBytes int64) ([]byte, http.Header, error) {
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the bridge: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the bridge's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, &StatusError{Code: response.StatusCode, Message: strings.TrimSpace(string(content))}
	}
	return content, response.Header, nil
}
