package executor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
)

// BridgeFiles gets configurations from the bridge's gateway to Keptn's files.
type BridgeFiles struct {
	Gateway files.Client
	// TokenFile holds a service account token for the bridge's audience. It is
	// read each time since Kubernetes replaces it.
	TokenFile string
}

// Grant asks the bridge for a grant.
func (from *BridgeFiles) Grant(ctx context.Context, task keptn.Task) (files.Grant, error) {
	token, err := os.ReadFile(from.TokenFile)
	if err != nil {
		return files.Grant{}, fmt.Errorf("reading the token for the bridge: %w", err)
	}
	return from.Gateway.Grant(ctx, string(token), task)
}

// Configuration looks job/config.yaml up at the service's level, then at the
// stage's, then at the project's. Only that there is none at a level moves on to
// the next one.
func (from *BridgeFiles) Configuration(ctx context.Context, task keptn.Task) (File, error) {
	grant, err := from.Grant(ctx, task)
	if err != nil {
		return File{}, err
	}
	for _, level := range files.Levels() {
		var content []byte
		content, err = from.Gateway.File(ctx, grant.Token, level, jobconfig.Path, jobconfig.MaxBytes)
		if err == nil {
			return File{Content: content, Level: level, Grant: grant}, nil
		}
		if !errors.Is(err, files.ErrNotFound) {
			return File{}, err
		}
	}
	return File{}, err
}
