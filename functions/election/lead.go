package election

import (
	"context"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/functions/function"
)

// Elector elects one of several replicas, as Election does.
type Elector interface {
	// Run calls lead when this replica is elected, with a context that ends when another one is.
	Run(ctx context.Context, lead func(context.Context) error) error
	// Holder returns the address of the elected replica.
	Holder() string
}

// Lead replaces handlers, by their paths, with ones that work only while this replica is elected, and pass events to the
// elected one otherwise, over the transport. It returns a loop that runs the loops while this replica is elected. Begin is
// called before.
func Lead(elector Elector, transport http.RoundTripper, handlers map[string]function.Handler, loops []func(context.Context) error, begin func()) []func(context.Context) error {
	gate := &Gate{Holder: elector.Holder, HTTP: &http.Client{Transport: transport, Timeout: function.BrokerTimeout}}
	for path, handle := range handlers {
		handlers[path] = gate.Handler(path, handle)
	}
	return []func(context.Context) error{func(ctx context.Context) error {
		return elector.Run(ctx, func(ctx context.Context) error {
			begin()
			gate.Open(ctx)
			group, ctx := errgroup.WithContext(ctx)
			for _, loop := range loops {
				group.Go(func() error { return loop(ctx) })
			}
			return group.Wait()
		})
	}}
}
