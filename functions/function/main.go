package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// Environment is the configuration that every function has.
type Environment struct {
	// Port is where the function listens; Knative sets it.
	Port int `env:"PORT" envDefault:"8080"`
	// MaxEventBytes is the largest event that is received.
	MaxEventBytes int64 `env:"MAX_EVENT_BYTES" envDefault:"4194304"`
	Draining      Draining
}

const (
	flushTimeout = time.Second
	// firstRetry and lastRetry bound the pause before what is needed at the start is
	// tried again.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// quietPause is the longest pause of retries that are not warned of.
	quietPause = 4 * time.Second
)

// errLoopEnded ends the process, which is started again: nobody else does the loop's work.
var errLoopEnded = errors.New("a loop of the program ended")

// Program is what a main has wired together.
type Program struct {
	// Handlers receive CloudEvents, each at its path.
	Handlers map[string]Handler
	// Routes are further HTTP handlers, served at a port of their own, so that others can be let
	// in there; the keys are patterns of http.ServeMux.
	Routes     map[string]http.Handler
	RoutesPort int
	// Loops run until their context ends; one that ends before ends the process.
	Loops []func(ctx context.Context) error
	// Ready, if it is set, returns an error while the program cannot do its work.
	Ready func(ctx context.Context) error
	// Untraced says that the events which it receives are no part of a delivery, and so of no
	// trace.
	Untraced bool
}

// HTTPHandler serves the program's handlers, for events of at most
// maxEventBytes.
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

// RoutesHandler serves the program's routes.
func (p Program) RoutesHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range p.Routes {
		mux.Handle(pattern, handler)
	}
	return atMost(mux, maxRoutes)
}

// maxRoutes is how many requests to routes are served at a time; each has one file in memory in parts.
const maxRoutes = 200

// Main runs a function: configuration, telemetry, handlers, serve, drain, flush.
// It ends the process with code 1 and one sentence if the configuration is wrong
// or something fails that can't be mended here.
// Readings get its metrics besides those whom NewTelemetry finds.
func Main[Configuration any](
	name string, wire func(ctx context.Context, configuration Configuration, signals *telemetry.Signals) (Program, error), readings ...telemetry.NewReader,
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
	}, readings...)
}

// Once runs what ends by itself, with the same configuration, telemetry and
// flush as Main.
func Once[Configuration any](name string, do func(ctx context.Context, configuration Configuration, signals *telemetry.Signals) error, readings ...telemetry.NewReader) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := once(ctx, name, do, readings)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func once[Configuration any](ctx context.Context, name string, do func(context.Context, Configuration, *telemetry.Signals) error, readings []telemetry.NewReader) error {
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
	signals, err := telemetry.New(ctx, name, logs.Level, readings...)
	if err != nil {
		return err
	}
	err = do(ctx, configuration, signals)
	flushCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	return errors.Join(err, signals.Flush(flushCtx))
}

// Retry does what is needed at the start until it succeeds, its error is permanent or the
// context ends, with a pause that doubles: what is away for a while is no reason to end.
func Retry[Value any](ctx context.Context, log *slog.Logger, do func(context.Context) (Value, error)) (Value, error) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		value, err := do(ctx)
		if err == nil || IsPermanent(err) {
			return value, err
		}
		// The first failures are expected: a network may let a new pod through with a delay.
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

// Serve serves a program until the context ends, then drains it: it reports to
// be not ready, goes on for the drain delay, and waits for what is under way. It is
// alive, and not ready, while the program is being wired.
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
