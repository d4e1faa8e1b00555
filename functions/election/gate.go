package election

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/function"
)

// Gate passes events to the handlers while this replica is elected, and otherwise to the elected one:
// deliveries are remembered in one place.
type Gate struct {
	// Holder returns the address of the elected replica, empty if unknown.
	Holder func() string
	HTTP   *http.Client

	leading atomic.Pointer[context.Context]
}

// Open passes events to the handlers until the context ends.
func (g *Gate) Open(ctx context.Context) { g.leading.Store(&ctx) }

// Handler returns a handler behind the gate, for events at a path. Its context ends when this replica is no
// longer elected.
func (g *Gate) Handler(path string, handle function.Handler) function.Handler {
	return func(ctx context.Context, received event.Event) (*event.Event, error) {
		leading := g.leading.Load()
		if leading == nil || (*leading).Err() != nil {
			return g.forward(ctx, path, received)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(*leading, cancel) //nolint:contextcheck // the term's context
		defer stop()
		return handle(ctx, received)
	}
}

// forwardedExtension marks a forwarded event, so that it is not forwarded again.
const forwardedExtension = "jobexecutorforwarded"

func (g *Gate) forward(ctx context.Context, path string, received event.Event) (*event.Event, error) {
	holder := g.Holder()
	if _, forwarded := received.Extensions()[forwardedExtension]; forwarded || holder == "" {
		return nil, errors.New("no replica is elected at the moment")
	}
	outgoing := received.Clone()
	outgoing.SetExtension(forwardedExtension, true)
	return (&function.Sender{URL: "http://" + holder + path, HTTP: g.HTTP}).Request(ctx, outgoing)
}
