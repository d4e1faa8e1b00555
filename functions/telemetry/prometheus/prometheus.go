package prometheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Configuration is the environment of a function that serves metrics.
type Configuration struct {
	// Port serves metrics apart from events and files, so that a network policy can allow other clients there;
	// 0 disables it.
	Port int `env:"METRICS_PORT" envDefault:"9090"`
}

const (
	// timeout bounds a request, and maxConcurrent the number of concurrent ones.
	timeout       = 10 * time.Second
	maxConcurrent = 4
)

// Main runs a function like function.Main and serves the metrics of the function and its process at /metrics.
func Main[Settings any](name string, wire func(ctx context.Context, configuration Settings, signals *telemetry.Signals) (function.Program, error)) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	function.Main(name, func(ctx context.Context, configuration Settings, signals *telemetry.Signals) (function.Program, error) {
		metrics, err := function.Configure[Configuration](env.ToMap(os.Environ()))
		if err != nil {
			return function.Program{}, err
		}
		program, err := wire(ctx, configuration, signals)
		if err != nil {
			return function.Program{}, err
		}
		program.Loops = append(program.Loops, metrics.loops(registry, signals.Log)...)
		return program, nil
	}, func() (sdkmetric.Reader, error) { return NewReader(registry) })
}

// loops returns the loop that serves the metrics, none for port 0.
func (c Configuration) loops(registry *prometheus.Registry, log *slog.Logger) []func(context.Context) error {
	if c.Port == 0 {
		return nil
	}
	return []func(context.Context) error{func(ctx context.Context) error {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(c.Port)))
		if err != nil {
			return fmt.Errorf("environment variable METRICS_PORT: %w", err)
		}
		return Serve(ctx, listener, registry, log)
	}}
}

// NewReader returns a reader that exports metrics to a registry, with names that every Prometheus accepts. It
// returns an error if the registry already has one.
func NewReader(registry *prometheus.Registry) (sdkmetric.Reader, error) {
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return nil, fmt.Errorf("set up metrics for Prometheus: %w", err)
	}
	return reader, nil
}

// Serve serves the metrics of a registry until the context ends.
func Serve(ctx context.Context, listener net.Listener, registry *prometheus.Registry, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true, // only OpenMetrics has exemplars
		MaxRequestsInFlight: maxConcurrent, Timeout: timeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}))
	server := &http.Server{Handler: mux, ReadTimeout: timeout, WriteTimeout: 2 * timeout, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
