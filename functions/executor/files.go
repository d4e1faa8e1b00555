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

// BridgeFiles reads configurations from the bridge's gateway.
type BridgeFiles struct {
	Gateway files.Client
	// Namespaces are the namespaces of Jobs.
	Namespaces []string
}

// firstPause and lastPause bound the pause between attempts to reach the bridge. It doubles. A network policy
// may apply to a new pod with a delay. After some six seconds the executor gives up, and the Broker redelivers
// the event.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 3200 * time.Millisecond
)

// Grant requests a grant from the bridge.
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

// Configuration looks job/config.yaml up at the service's level, then at the stage's, then at the project's.
// Only ErrNotFound moves on to the next level.
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
