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

// ReadTimeout bounds one call of the bridge. It is longer than the bridge waits for
// Keptn.
const ReadTimeout = 50 * time.Second

const maxGrantBytes = 16 << 10

// Configuration looks job/config.yaml up at the service's level, then at the
// stage's, then at the project's. Only that there is none at a level moves on to
// the next one.
func (files *BridgeFiles) Configuration(ctx context.Context, task keptn.Task) (content []byte, grant Grant, err error) {
	grant, err = files.grant(ctx, task)
	if err != nil {
		return nil, Grant{}, err
	}
	for _, level := range []string{"service", "stage", "project"} {
		query := url.Values{"level": {level}, "path": {jobconfig.Path}}
		content, status, _, err := files.call(ctx, http.MethodGet, "/resource?"+query.Encode(), nil, grant.Token, jobconfig.MaxBytes)
		switch {
		case err != nil:
			return nil, Grant{}, err
		case status == http.StatusOK:
			return content, grant, nil
		case status != http.StatusNotFound:
			return nil, Grant{}, fmt.Errorf("the bridge answered %d: %s", status, strings.TrimSpace(string(content)))
		}
	}
	return nil, Grant{}, ErrNoConfiguration
}

// bridgeTaskStarted is the header of a grant which says that the task has been started
// (bridge.TaskStartedHeader).
const bridgeTaskStarted = "Task-Started"

func (files *BridgeFiles) grant(ctx context.Context, task keptn.Task) (Grant, error) {
	token, err := os.ReadFile(files.TokenFile)
	if err != nil {
		return Grant{}, fmt.Errorf("reading the token for the bridge: %w", err)
	}
	body, err := json.Marshal(task)
	if err != nil {
		return Grant{}, fmt.Errorf("encoding the task: %w", err)
	}
	content, status, header, err := files.call(ctx, http.MethodPost, "/grant", body, string(token), maxGrantBytes)
	if err != nil {
		return Grant{}, err
	}
	if status == http.StatusGone {
		return Grant{}, ErrOver
	}
	if status != http.StatusOK {
		return Grant{}, fmt.Errorf("the bridge gave no grant, but %d: %s", status, strings.TrimSpace(string(content)))
	}
	return Grant{Token: string(content), Started: header.Get(bridgeTaskStarted) != ""}, nil
}

func (files *BridgeFiles) call(ctx context.Context, method, path string, body []byte, bearer string, maxBytes int64) (content []byte, status int, header http.Header, err error) {
	content, status, header, err = function.Fetch(ctx, files.HTTP, method, files.URL+path, body, bearer, maxBytes)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("asking the bridge: %w", err)
	}
	return content, status, header, nil
}
