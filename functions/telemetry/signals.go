package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Signals are a function's logs, traces and metrics.
type Signals struct {
	Log     *slog.Logger
	Tracers trace.TracerProvider
	// JobTracers write the spans of users' Jobs, under a service name of their own.
	JobTracers trace.TracerProvider
	Meters     metric.MeterProvider
	// IsTraced is true if spans are exported.
	IsTraced bool
	// Events counts events.
	Events *Counters

	flush func(context.Context) error
}

// New returns signals that log JSON to standard error, and export spans and metrics by OTLP over HTTP as
// OpenTelemetry's environment variables say (OTEL_EXPORTER_OTLP_ENDPOINT and those of each signal,
// OTEL_TRACES_SAMPLER, OTEL_METRIC_EXPORT_INTERVAL). The readers get the metrics, too.
func New(ctx context.Context, name string, level slog.Level, readers ...ReaderFunc) (*Signals, error) {
	processors, err := ExportFromEnvironment(ctx)
	if err != nil {
		return nil, err
	}
	signals := To(name, slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}), processors...)
	if hasEndpoint("METRICS") {
		readers = append(readers, func() (sdkmetric.Reader, error) {
			exporter, err := otlpmetrichttp.New(ctx)
			if err != nil {
				return nil, fmt.Errorf("set up the export of metrics: %w", err)
			}
			return sdkmetric.NewPeriodicReader(exporter), nil
		})
	}
	return signals, signals.Measure(name, readers)
}

// ReaderFunc creates a reader of metrics.
type ReaderFunc func() (sdkmetric.Reader, error)

// maxSeries bounds the series of one metric. The others are counted together, with the attribute
// otel.metric.overflow.
const maxSeries = 2000

// Measure starts to measure for readers. Without readers metrics cost nothing.
func (s *Signals) Measure(name string, readers []ReaderFunc) error {
	if len(readers) == 0 {
		return nil
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(resourceOf(name)), sdkmetric.WithCardinalityLimit(maxSeries)}
	for _, create := range readers {
		reader, err := create()
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	meters, flushSpans := sdkmetric.NewMeterProvider(options...), s.flush
	s.Meters, s.flush = meters, func(ctx context.Context) error {
		return errors.Join(flushSpans(ctx), meters.Shutdown(ctx))
	}
	var err error
	s.Events, err = NewCounters(meters)
	return err
}

// Flush exports all pending data.
func (s *Signals) Flush(ctx context.Context) error { return s.flush(ctx) }

// hasEndpoint reports whether a variable sets the endpoint of a signal.
func hasEndpoint(signal string) bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// namespace is the namespace of all services.
const namespace = "job-executor"

// JobService is the service of users' Jobs.
const JobService = "jobs"

// Host returns attributes that make Jaeger treat all functions as one host. Otherwise Jaeger takes a span that
// starts after its parent's end for a clock skew, and warns of it or moves it. Its two clock adjusters read
// host.name, which a user may choose, and its own attribute ip.
func Host() []attribute.KeyValue {
	return []attribute.KeyValue{semconv.HostName(namespace), attribute.String("ip", namespace)}
}

// resourceOf returns the resource of a function.
func resourceOf(name string) *resource.Resource {
	attributes := append(Host(), semconv.ServiceName(namespace+"-"+name), semconv.ServiceNamespace(namespace), semconv.ServiceVersion(Version()))
	if pod, err := os.Hostname(); err == nil {
		attributes = append(attributes, semconv.ServiceInstanceID(pod))
	}
	if service := os.Getenv("K_SERVICE"); service != "" { // set by Knative Serving
		attributes = append(attributes, semconv.FaaSName(service))
	}
	return resource.NewWithAttributes(semconv.SchemaURL, attributes...)
}

// version is set by the linker in a release.
var version string //nolint:gochecknoglobals // as -ldflags=-X needs it

// Version returns the version of a release, or else that of the module in the program's build information: a tag or
// commit of Git, "(devel)" without Git, and "unknown" without such information.
func Version() string {
	if version != "" {
		return version
	}
	if built, ok := debug.ReadBuildInfo(); ok {
		return built.Main.Version
	}
	return "unknown"
}

// exportDelay is how long a span waits for others of its batch.
const exportDelay = time.Second

// ExportFromEnvironment returns a processor that exports spans by OTLP over HTTP, or none if no variable
// sets an endpoint.
func ExportFromEnvironment(ctx context.Context) ([]sdktrace.SpanProcessor, error) {
	if !hasEndpoint("TRACES") {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("set up the export of traces: %w", err)
	}
	return []sdktrace.SpanProcessor{sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithBatchTimeout(exportDelay))}, nil
}

// To returns signals that log to a handler, pass spans to processors, and measure nothing. Without
// processors there are no spans, but a trace is passed on.
func To(name string, handler slog.Handler, processors ...sdktrace.SpanProcessor) *Signals {
	log := slog.New(logHandler{handler}).With("function", name)
	if len(processors) == 0 {
		return &Signals{
			Log: log, Tracers: tracenoop.NewTracerProvider(), JobTracers: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider(), flush: func(context.Context) error { return nil },
		}
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithIDGenerator(IDGenerator{})}
	for _, processor := range processors {
		options = append(options, sdktrace.WithSpanProcessor(processor))
	}
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithResource(resourceOf(name)))...)
	jobs := sdktrace.NewTracerProvider(append(slices.Clone(options), sdktrace.WithResource(resourceOf(JobService)))...)
	return &Signals{Log: log, Tracers: provider, JobTracers: jobs, IsTraced: true, Meters: noop.NewMeterProvider(), flush: provider.Shutdown}
}
