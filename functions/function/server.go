package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// Draining is how a server shuts down.
type Draining struct {
	// Delay is how long the server keeps serving after SIGTERM, until endpoints have propagated. Knative's
	// queue-proxy does this itself.
	Delay time.Duration `env:"DRAIN_DELAY" envDefault:"0s"`
	// Timeout bounds the requests in flight after that.
	Timeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"25s"`
}

const (
	readHeaderTimeout = 10 * time.Second
	// readTimeout bounds how long a request may take to arrive.
	readTimeout    = time.Minute
	idleTimeout    = 3 * time.Minute
	maxHeaderBytes = 64 << 10
)

// listen listens on a port of all addresses.
func listen(ctx context.Context, port int) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return listener, nil
}

// serve serves until the context ends, keeps serving for the drain delay, and waits for requests in flight. Its
// errors are a listener that fails, and a request that does not end in time.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, draining Draining, log *slog.Logger) error {
	base := context.WithoutCancel(ctx)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		log.InfoContext(ctx, "draining", "address", listener.Addr().String())
		time.Sleep(draining.Delay)
		drainCtx, cancel := context.WithTimeout(base, draining.Timeout)
		defer cancel()
		if err := server.Shutdown(drainCtx); err != nil {
			return fmt.Errorf("draining: %w", err)
		}
		return nil
	})
	log.InfoContext(ctx, "serving", "address", listener.Addr().String())
	return group.Wait()
}
