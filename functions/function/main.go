package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// Environment is the configuration of all functions.
type Environment struct {
	// Port is the port of the function. Knative sets it.
	Port int `env:"PORT" envDefault:"8080"`
	// MaxEventBytes bounds a received event.
	MaxEventBytes int64 `env:"MAX_EVENT_BYTES" envDefault:"4194304"`
	Draining      Draining
}

const (
	flushTimeout = time.Second
	// firstRetry and lastRetry bound the pause between attempts at startup.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// quietPause is the longest pause without a warning in the log.
	quietPause = 4 * time.Second
)

// errLoopEnded ends the process, so that Kubernetes restarts it. Nothing else does the work of a loop.
var errLoopEnded = errors.New("a loop of the program ended")

// Program is what a main serves.
type Program struct {
	// Handlers receive CloudEvents by path.
	Handlers map[string]Handler
	// Routes are further HTTP handlers by pattern of http.ServeMux. They have a port of their own, so that a
	// network policy can allow other clients there.
	Routes     map[string]http.Handler
	RoutesPort int
	// Loops run until their context ends. The process ends if one returns earlier.
	Loops []func(ctx context.Context) error
	// Ready returns an error while the program cannot work. It may be nil.
	Ready func(ctx context.Context) error
	// Untraced is true if the received events do not belong to a delivery, and so to no trace.
	Untraced bool
}

// HTTPHandler returns the program's handlers, for events of at most maxEventBytes.
func (p Program) HTTPHandler(maxEventBytes int64, signals *telemetry.Signals) http.Handler {
	mux := http.NewServeMux()
	if p.Untraced {
		untraced := *signals
		untraced.Tracers = noop.NewTracerProvider()
		signals = &untraced
	}
	for path, handle := range p.Handlers {
		mux.Handle(path, Receiver(handle, maxEventBytes, signals))
	}
	return fewLarge(mux, maxEventBytes, signals.Log)
}

// RoutesHandler returns the program's routes.
func (p Program) RoutesHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range p.Routes {
		mux.Handle(pattern, handler)
	}
	return atMost(mux, maxRoutes)
}

// maxRoutes is how many requests to routes are served at a time. Each holds a part of a file in memory.
const maxRoutes = 200

// Main runs a function: configuration, telemetry, handlers, serve, drain, flush. If the configuration is
// invalid or startup fails for good, it prints one sentence and exits with code 1. The readers get the metrics,
// besides those that the environment configures.
func Main[Configuration any](
	name string, wire func(ctx context.Context, configuration Configuration, signals *telemetry.Signals) (Program, error), readers ...telemetry.ReaderFunc,
) {
	Once(name, func(ctx context.Context, configuration Configuration, signals *telemetry.Signals) error {
		settings, err := ReadVariables(os.Environ())
		if err != nil {
			return err
		}
		environment, err := Configure[Environment](settings)
		if err != nil {
			return err
		}
		listener, err := listen(ctx, environment.Port)
		if err != nil {
			return err
		}
		return Serve(ctx, environment, listener, func(ctx context.Context) (Program, error) { return wire(ctx, configuration, signals) }, signals)
	}, readers...)
}

// Once runs a program that ends, with the same configuration, telemetry and flush as Main. With the argument --version it only prints
// its name and version.
func Once[Configuration any](name string, do func(ctx context.Context, configuration Configuration, signals *telemetry.Signals) error, readers ...telemetry.ReaderFunc) {
	if slices.Contains(os.Args[1:], "--version") {
		fmt.Println(name, telemetry.Version())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := once(ctx, name, do, readers)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func once[Configuration any](ctx context.Context, name string, do func(context.Context, Configuration, *telemetry.Signals) error, readers []telemetry.ReaderFunc) error {
	type logging struct {
		Level slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	}
	settings, err := ReadVariables(os.Environ())
	if err != nil {
		return err
	}
	logs, logsErr := Configure[logging](settings)
	configuration, err := Configure[Configuration](settings)
	if err := errors.Join(logsErr, err); err != nil {
		return err
	}
	signals, err := telemetry.New(ctx, name, logs.Level, readers...)
	if err != nil {
		return err
	}
	signals.Log.InfoContext(ctx, "starting", "version", telemetry.Version())
	err = do(ctx, configuration, signals)
	flushCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	return errors.Join(err, signals.Flush(flushCtx))
}

// Retry repeats a step of startup until it succeeds, fails permanently, or the context ends. The pause doubles.
// A neighbour's outage must not end the process.
func Retry[Value any](ctx context.Context, log *slog.Logger, do func(context.Context) (Value, error)) (Value, error) {
	pauses := wait.Backoff{Duration: firstRetry, Factor: 2, Steps: math.MaxInt32, Cap: lastRetry}
	for {
		value, err := do(ctx)
		if err == nil || IsPermanent(err) {
			return value, err
		}
		pause := pauses.Step()
		// The first failures are expected: a network policy may apply to a new pod with a delay.
		level := slog.LevelInfo
		if pause > quietPause {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "retrying", "pause", pause.String(), "error", err)
		select {
		case <-ctx.Done():
			return value, errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// Serve serves a program until the context ends, and then drains it: it reports not ready, keeps serving for
// the drain delay, and waits for requests in flight. While the program is being wired it is alive but not
// ready.
func Serve(ctx context.Context, environment Environment, listener net.Listener, wire func(context.Context) (Program, error), signals *telemetry.Signals) error {
	var draining atomic.Bool
	var wired atomic.Pointer[http.Handler]
	var ready atomic.Pointer[func(context.Context) error]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(writer http.ResponseWriter, request *http.Request) {
		switch isReady := ready.Load(); {
		case isReady != nil && (*isReady)(request.Context()) != nil:
			http.Error(writer, (*isReady)(request.Context()).Error(), http.StatusServiceUnavailable)
		case draining.Load():
			http.Error(writer, "draining", http.StatusServiceUnavailable)
		case wired.Load() == nil:
			http.Error(writer, "starting", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		if handler := wired.Load(); handler != nil {
			(*handler).ServeHTTP(writer, request)
			return
		}
		http.Error(writer, "starting", http.StatusServiceUnavailable)
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		program, err := wire(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		handler := program.HTTPHandler(environment.MaxEventBytes, signals)
		if program.Ready != nil {
			ready.Store(&program.Ready)
		}
		wired.Store(&handler)
		loops, ctx := errgroup.WithContext(ctx)
		if program.RoutesPort > 0 {
			listener, err := listen(ctx, program.RoutesPort)
			if err != nil {
				return err
			}
			loops.Go(func() error {
				return serve(ctx, listener, program.RoutesHandler(), environment.Draining, signals.Log)
			})
		}
		for _, loop := range program.Loops {
			loops.Go(func() error {
				err := loop(ctx)
				if err == nil && ctx.Err() == nil {
					err = errLoopEnded
				}
				if ctx.Err() != nil {
					return nil
				}
				return err
			})
		}
		return loops.Wait()
	})
	defer context.AfterFunc(ctx, func() { draining.Store(true) })()
	group.Go(func() error { return serve(ctx, listener, mux, environment.Draining, signals.Log) })
	return group.Wait()
}
