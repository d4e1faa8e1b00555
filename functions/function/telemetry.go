package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/job-executor/job-executor/functions/eventmetric"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/observability"
	"github.com/job-executor/job-executor/functions/tracing"
)

// Telemetry is what a function logs, traces and counts with.
type Telemetry struct {
	Log     *slog.Logger
	Tracers trace.TracerProvider
	Meters  metric.MeterProvider
	// IsTraced says that somebody gets the spans.
	IsTraced bool
	// Events counts events.
	Events *eventmetric.Counters

	flush func(context.Context) error
}

// NewTelemetry returns telemetry that logs JSON to standard error and exports spans and
// metrics by OTLP over HTTP, to where OpenTelemetry's environment variables say, or else the
// ConfigMap config-observability (OTEL_EXPORTER_OTLP_ENDPOINT and its like for each signal;
// OTEL_TRACES_SAMPLER). What is wrong with the latter is logged, and keeps nothing from
// working. Readings get the metrics, too.
func NewTelemetry(ctx context.Context, name string, level slog.Level, readings ...Reading) (*Telemetry, error) {
	settings, wrong := observability.Read(observability.Directory)
	if wrong != nil {
		settings = observability.Settings{}
	}
	processors, err := ExportFromEnvironment(ctx)
	var options []sdktrace.TracerProviderOption
	if err == nil && len(processors) == 0 && settings.TracesEndpoint != "" {
		processors, err = export(ctx, otlptracehttp.WithEndpointURL(settings.TracesEndpoint))
		if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
			options = append(options, sdktrace.WithSampler(sdktrace.TraceIDRatioBased(settings.SamplingRate)))
		}
	}
	if err != nil {
		return nil, err
	}
	telemetry := telemetryTo(name, slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}), processors, options...)
	if wrong != nil {
		telemetry.Log.WarnContext(ctx, "there are no spans and metrics, unless OTEL_ variables say where to", "error", wrong)
	}
	if hasEndpoint("METRICS") || settings.MetricsEndpoint != "" {
		readings = append(readings, func() (sdkmetric.Reader, error) { return pushing(ctx, settings) })
	}
	return telemetry, telemetry.measure(name, readings)
}

// Reading makes one who gets metrics.
type Reading func() (sdkmetric.Reader, error)

// maxSeries bounds the sets of attributes of one metric; what is beyond them is counted
// together, with the attribute otel.metric.overflow.
const maxSeries = 500

// measure has metrics made for whoever gets them; where nobody does they cost nothing.
func (telemetry *Telemetry) measure(name string, readings []Reading) error {
	if len(readings) == 0 {
		return nil
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(resourceOf(name)), sdkmetric.WithCardinalityLimit(maxSeries)}
	for _, make := range readings {
		reader, err := make()
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	meters, flushSpans := sdkmetric.NewMeterProvider(options...), telemetry.flush
	telemetry.Meters, telemetry.flush = meters, func(ctx context.Context) error {
		return errors.Join(flushSpans(ctx), meters.Shutdown(ctx))
	}
	var err error
	telemetry.Events, err = eventmetric.New(meters)
	return err
}

// pushing exports metrics by OTLP over HTTP, to where OpenTelemetry's variables say, or else the
// settings.
func pushing(ctx context.Context, settings observability.Settings) (sdkmetric.Reader, error) {
	var to []otlpmetrichttp.Option
	if !hasEndpoint("METRICS") {
		to = append(to, otlpmetrichttp.WithEndpointURL(settings.MetricsEndpoint))
	}
	exporter, err := otlpmetrichttp.New(ctx, to...)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of metrics: %w", err)
	}
	var options []sdkmetric.PeriodicReaderOption
	if settings.MetricsInterval > 0 {
		options = append(options, sdkmetric.WithInterval(settings.MetricsInterval))
	}
	return sdkmetric.NewPeriodicReader(exporter, options...), nil
}

// hasEndpoint says whether a variable says where a signal goes.
func hasEndpoint(signal string) bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// namespace is that of all functions' services, and their host.
const namespace = "job-executor"

// resourceOf is what all telemetry of a function is about, wherever it runs. They all name
// one host, by the attributes that Jaeger's two adjusters of clocks look at: what a function
// does after the one that sent it the event has ended is taken for a clock that is wrong,
// where the two are not known to have the same.
func resourceOf(name string) *resource.Resource {
	attributes := []attribute.KeyValue{
		attribute.String("service.name", namespace+"-"+name), attribute.String("service.namespace", namespace),
		attribute.String("service.version", version()), attribute.String("host.id", namespace), attribute.String("ip", namespace),
	}
	if service := os.Getenv("K_SERVICE"); service != "" { // of Knative Serving
		attributes = append(attributes, attribute.String("faas.name", service))
	}
	return resource.NewSchemaless(attributes...)
}

// version is that of the module, as the Go toolchain notes it in the program.
func version() string {
	if built, ok := debug.ReadBuildInfo(); ok {
		return built.Main.Version
	}
	return "unknown"
}

// ExportFromEnvironment returns a processor that exports spans by OTLP over HTTP,
// or none if no variable names an endpoint.
func ExportFromEnvironment(ctx context.Context) ([]sdktrace.SpanProcessor, error) {
	if !hasEndpoint("TRACES") {
		return nil, nil
	}
	return export(ctx)
}

func export(ctx context.Context, options ...otlptracehttp.Option) ([]sdktrace.SpanProcessor, error) {
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of traces: %w", err)
	}
	return []sdktrace.SpanProcessor{tracing.NewBatches(ctx, exporter)}, nil
}

// TelemetryTo returns telemetry of a function of this name that logs to a handler,
// gives its spans to processors, and counts for nobody. Without processors there are no
// spans, and the trace is passed on only.
func TelemetryTo(name string, handler slog.Handler, processors ...sdktrace.SpanProcessor) *Telemetry {
	return telemetryTo(name, handler, processors)
}

func telemetryTo(name string, handler slog.Handler, processors []sdktrace.SpanProcessor, more ...sdktrace.TracerProviderOption) *Telemetry {
	log := slog.New(traceHandler{handler}).With("function", name)
	if len(processors) == 0 {
		return &Telemetry{
			Log: log, Tracers: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider(), flush: func(context.Context) error { return nil },
		}
	}
	options := append([]sdktrace.TracerProviderOption{
		sdktrace.WithIDGenerator(tracing.IDGenerator{}),
		sdktrace.WithResource(resourceOf(name)),
	}, more...)
	for _, processor := range processors {
		options = append(options, sdktrace.WithSpanProcessor(processor))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return &Telemetry{
		Log: log, Tracers: provider, IsTraced: true, Meters: noop.NewMeterProvider(), flush: provider.Shutdown,
	}
}

type eventKey struct{}

// withEvent has every log line that is written for an event name it, and the Keptn context and
// what else it is about, such as a Job, where it says so.
func withEvent(ctx context.Context, of event.Event) context.Context {
	named := []slog.Attr{slog.String("event_id", of.ID())}
	if keptnContext, ok := of.Extensions()[keptn.ContextExtension].(string); ok {
		named = append(named, slog.String("keptncontext", keptnContext))
	}
	if of.Subject() != "" {
		named = append(named, slog.String("subject", of.Subject()))
	}
	return context.WithValue(ctx, eventKey{}, named)
}

// traceHandler adds to every log line the trace that it is written within, and the event that
// it is written for.
type traceHandler struct{ slog.Handler }

func (handler traceHandler) Handle(ctx context.Context, record slog.Record) error {
	if named, ok := ctx.Value(eventKey{}).([]slog.Attr); ok {
		told := map[string]bool{}
		record.Attrs(func(attribute slog.Attr) bool {
			told[attribute.Key] = true
			return true
		})
		for _, attribute := range named {
			if !told[attribute.Key] {
				record.AddAttrs(attribute)
			}
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return handler.Handler.Handle(ctx, record)
}

func (handler traceHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return traceHandler{handler.Handler.WithAttrs(attributes)}
}

func (handler traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{handler.Handler.WithGroup(name)}
}
