package function

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	cryptorand "crypto/rand"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Telemetry is what a function logs, traces and counts with.
type Telemetry struct {
	Log        *slog.Logger
	Tracers    trace.TracerProvider
	Meters     metric.MeterProvider
	Propagator propagation.TextMapPropagator

	flush func(context.Context) error
}

// NewTelemetry returns telemetry that logs JSON to standard error and exports
// spans and metrics by OTLP over HTTP: spans if OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, metrics if OTEL_EXPORTER_OTLP_ENDPOINT
// or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is (OpenTelemetry specification,
// environment variables).
func NewTelemetry(ctx context.Context, name string, level slog.Level) (*Telemetry, error) {
	processors, err := ExportFromEnvironment(ctx)
	if err != nil {
		return nil, err
	}
	telemetry := TelemetryTo(name, slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}), processors...)
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") == "" {
		return telemetry, nil
	}
	exporter, err := otlpmetrichttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of metrics: %w", err)
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithResource(resourceOf(name)), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	flushSpans := telemetry.flush
	telemetry.Meters, telemetry.flush = meters, func(ctx context.Context) error {
		return errors.Join(flushSpans(ctx), meters.Shutdown(ctx))
	}
	return telemetry, nil
}

func resourceOf(name string) *resource.Resource {
	return resource.NewSchemaless(attribute.String("service.name", name))
}

// ExportFromEnvironment returns a processor that exports spans by OTLP over HTTP,
// or none if no endpoint is set.
func ExportFromEnvironment(ctx context.Context) ([]sdktrace.SpanProcessor, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("setting up the export of traces: %w", err)
		}
		return []sdktrace.SpanProcessor{sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithBatchTimeout(exportDelay))}, nil
	}
	return nil, nil
}

// TelemetryTo returns telemetry of a function of this name that logs to a handler,
// gives its spans to processors, and counts for nobody.
func TelemetryTo(name string, handler slog.Handler, processors ...sdktrace.SpanProcessor) *Telemetry {
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithIDGenerator(idGenerator{}),
		sdktrace.WithResource(resourceOf(name)),
	}
	for _, processor := range processors {
		options = append(options, sdktrace.WithSpanProcessor(processor))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return &Telemetry{
		Log:     slog.New(traceHandler{handler}).With("function", name),
		Tracers: provider, Meters: noop.NewMeterProvider(), Propagator: propagation.TraceContext{}, flush: provider.Shutdown,
	}
}

// Transport traces outgoing requests and passes the trace on with them.
func (telemetry *Telemetry) Transport(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base,
		otelhttp.WithTracerProvider(telemetry.Tracers),
		otelhttp.WithPropagators(telemetry.Propagator))
}

// middleware gives every request a span, named after the event's type.
func (telemetry *Telemetry) middleware(name string, handler http.Handler) http.Handler {
	return otelhttp.NewHandler(handler, name,
		otelhttp.WithTracerProvider(telemetry.Tracers),
		otelhttp.WithPropagators(telemetry.Propagator),
		otelhttp.WithSpanNameFormatter(func(_ string, request *http.Request) string {
			if eventType := request.Header.Get("Ce-Type"); eventType != "" {
				return name + " " + eventType
			}
			return name + " " + request.Method + " " + request.URL.Path
		}))
}

type traceIDKey struct{}

// ContextWithTraceID has a span that is started without a parent begin the trace
// whose id is the Keptn context, a UUID: both are 16 bytes, so a search for the
// one finds the other. Any other text leaves the context as it is.
func ContextWithTraceID(ctx context.Context, keptnContext string) context.Context {
	content, err := hex.DecodeString(strings.ReplaceAll(keptnContext, "-", ""))
	var id trace.TraceID
	if err != nil || copy(id[:], content) != len(content) || len(content) != len(id) || !id.IsValid() {
		return ctx
	}
	return context.WithValue(ctx, traceIDKey{}, id)
}

// idGenerator makes random ids, except for the trace id that the context names.
type idGenerator struct{}

func (idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := ctx.Value(traceIDKey{}).(trace.TraceID)
	if !ok {
		_, _ = cryptorand.Read(id[:])
	}
	return id, idGenerator{}.NewSpanID(ctx, id)
}

func (idGenerator) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	_, _ = cryptorand.Read(id[:])
	return id
}

// traceHandler adds the trace to every log line that is written within one.
type traceHandler struct{ slog.Handler }

func (handler traceHandler) Handle(ctx context.Context, record slog.Record) error {
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
