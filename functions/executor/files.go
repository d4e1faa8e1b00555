package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
)

// BridgeFiles gets configurations from the bridge's gateway to Keptn's files.
type BridgeFiles struct {
	// URL is the bridge's address, without a slash at the end.
	URL string
	// TokenFile holds a service account token for the bridge's audience. It is
	// read each time since Kubernetes replaces it.
	TokenFile string
	HTTP      *http.Client
}

// ReadTimeout bounds one call of the bridge.
const ReadTimeout = 20 * time.Second

const maxGrantBytes = 16 << 10

// Configuration looks job/config.yaml up at the service's level, then at the
// stage's, then at the project's. Only that there is none at a level moves on to
// the next one.
func (files *BridgeFiles) Configuration(ctx context.Context, task keptn.Task) (content []byte, grant string, err error) {
	grant, err = files.grant(ctx, task)
	if err != nil {
		return nil, "", err
	}
	for _, level := range []string{"service", "stage", "project"} {
		query := url.Values{"level": {level}, "path": {jobconfig.Path}}
		content, status, err := files.call(ctx, http.MethodGet, "/resource?"+query.Encode(), nil, grant, jobconfig.MaxBytes)
		switch {
		case err != nil:
			return nil, "", err
		case status == http.StatusOK:
			return content, grant, nil
		case status != http.StatusNotFound:
			return nil, "", fmt.Errorf("the bridge answered %d: %s", status, strings.TrimSpace(string(content)))
		}
	}
	return nil, "", ErrNoConfiguration
}

func (files *BridgeFiles) grant(ctx context.Context, task keptn.Task) (string, error) {
	token, err := os.ReadFile(files.TokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the token for the bridge: %w", err)
	}
	body, err := json.Marshal(task)
	if err != nil {
		return "", fmt.Errorf("encoding the task: %w", err)
	}
	content, status, err := files.call(ctx, http.MethodPost, "/grant", body, string(token), maxGrantBytes)
	if err != nil {
		return "", err
	}
	if status == http.StatusGone {
		return "", ErrOver
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("the bridge gave no grant, but %d: %s", status, strings.TrimSpace(string(content)))
	}
	return string(content), nil
}

func (files *BridgeFiles) call(ctx context.Context, method, path string, body []byte, bearer string, maxBytes int64) (content []byte, status int, err error) {
	content, status, err = function.Fetch(ctx, files.HTTP, method, files.URL+path, body, bearer, maxBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("asking the bridge: %w", err)
	}
	return content, status, nil
}
