package executor

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/jobconfig"
)

// BridgeFiles gets configurations from the bridge's gateway to Keptn's files.
type BridgeFiles struct {
	Gateway files.Client
	// Namespaces are those in which Jobs may run.
	Namespaces []string
}

// firstPause and lastPause bound the pause, which doubles, before a bridge is tried again that could
// not be reached: where a network enforces policies, a pod that has just started is let through a
// little later. In all it is some six seconds; after that the event is delivered again.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 3200 * time.Millisecond
)

// Grant asks the bridge for a grant.
func (b *BridgeFiles) Grant(ctx context.Context, received event.Event) (files.Grant, error) {
	for pause := firstPause; ; pause *= 2 {
		grant, err := b.Gateway.Grant(ctx, received, b.Namespaces)
		if unreached, ok := errors.AsType[*net.OpError](err); !ok || unreached.Op != "dial" || pause > lastPause {
			return grant, err
		}
		select {
		case <-ctx.Done():
			return files.Grant{}, err
		case <-time.After(pause):
		}
	}
}

// Configuration looks job/config.yaml up at the service's level, then at the
// stage's, then at the project's. Only that there is none at a level moves on to
// the next one.
func (b *BridgeFiles) Configuration(ctx context.Context, received event.Event) (File, error) {
	grant, err := b.Grant(ctx, received)
	if err != nil {
		return File{}, err
	}
	for _, level := range files.Levels() {
		var content []byte
		content, err = b.Gateway.File(ctx, grant.Token, level, jobconfig.Path, jobconfig.MaxBytes)
		if err == nil {
			return File{Content: content, Level: level, Grant: grant}, nil
		}
		if !errors.Is(err, files.ErrNotFound) {
			return File{}, err
		}
	}
	return File{}, err
}
