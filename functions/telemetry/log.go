package telemetry

import (
	"context"
	"log/slog"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
)

type eventKey struct{}

// WithEvent returns a context whose log lines have the id of an event, and its Keptn context and subject if
// it has them.
func WithEvent(ctx context.Context, of event.Event) context.Context {
	attributes := []slog.Attr{slog.String("event_id", of.ID())}
	if keptnContext, ok := of.Extensions()[keptn.ContextExtension].(string); ok {
		attributes = append(attributes, slog.String("keptncontext", keptnContext))
	}
	if of.Subject() != "" {
		attributes = append(attributes, slog.String("subject", of.Subject()))
	}
	return context.WithValue(ctx, eventKey{}, attributes)
}

// logHandler adds the event and the trace of the context to every log line.
type logHandler struct{ slog.Handler }

// Handle implements slog.Handler. A line's own attributes take precedence.
func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if attributes, ok := ctx.Value(eventKey{}).([]slog.Attr); ok {
		own := map[string]bool{}
		record.Attrs(func(attribute slog.Attr) bool {
			own[attribute.Key] = true
			return true
		})
		for _, attribute := range attributes {
			if !own[attribute.Key] {
				record.AddAttrs(attribute)
			}
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
