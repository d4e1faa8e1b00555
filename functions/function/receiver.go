package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// Handler handles an event and returns a reply, or nil for none. It must be idempotent: events may be delivered
// any number of times. After an error the event is delivered again, unless the error is Permanent.
type Handler func(ctx context.Context, received event.Event) (*event.Event, error)

// Receiver returns an http.Handler for CloudEvents in binary or structured mode, of at most maxBytes. The
// handler runs inside the trace of the event's sender, and the reply continues that trace.
func Receiver(handle Handler, maxBytes int64, signals *telemetry.Signals) http.Handler {
	log, tracer := signals.Log, signals.Tracers.Tracer("function")
	var started atomic.Bool
	created := time.Now()
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPost {
			http.Error(writer, "events are received by POST", http.StatusMethodNotAllowed)
			return
		}
		ctx, began := request.Context(), time.Now()
		request.Body = http.MaxBytesReader(writer, request.Body, maxBytes)
		message := cehttp.NewMessageFromHttpRequest(request)
		received, err := binding.ToEvent(ctx, message)
		_ = message.Finish(nil)
		if err == nil {
			err = received.Validate()
		}
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			err = fmt.Errorf("%w: more than %d bytes", errTooLarge, maxBytes)
		}
		if err != nil {
			err = Permanent(fmt.Errorf("read the event: %w", err))
			signals.Events.Received(ctx, unknownType, began, ErrorType(err))
			fail(ctx, writer, log, err)
			return
		}
		log := log.With("type", received.Type(), "source", received.Source())
		ctx = telemetry.WithEvent(ctx, *received)
		ctx, end := process(ctx, tracer, received, created, !started.Swap(true))
		reply, err := handle(ctx, *received)
		end(err)
		signals.Events.Received(ctx, received.Type(), began, ErrorType(err))
		if err != nil {
			fail(ctx, writer, log, err)
			return
		}
		log = log.With("duration", time.Since(began).Round(time.Millisecond).String())
		if reply == nil {
			log.InfoContext(ctx, "event handled, no reply")
			// Knative treats a success with a body that is no event as a failure, so the body is empty.
			writer.WriteHeader(http.StatusAccepted)
			return
		}
		log.InfoContext(ctx, "event handled", "reply", reply.Type())
		if trace.SpanContextFromContext(ctx).IsValid() {
			reply = new(telemetry.Sent(ctx, *reply)) // a reply to an untraced event may have its own trace
		}
		err = cehttp.WriteResponseWriter(ctx, binding.ToMessage(reply), http.StatusOK, writer)
		signals.Events.Sent(ctx, reply.Type(), ErrorType(err))
		if err != nil {
			log.ErrorContext(ctx, "writing the reply failed", "error", err)
		}
	})
}

// unknownType is the type of a request without an event.
const unknownType = "_OTHER"

func fail(ctx context.Context, writer http.ResponseWriter, log *slog.Logger, err error) {
	status := statusOf(err)
	log.WarnContext(ctx, "event not handled", "status", status, "error", err)
	// The dead letter sink gets this sentence as knativeerrordata.
	http.Error(writer, err.Error(), status)
}

// process starts the span of handling an event within a trace. Only a permanent error marks the span, because any
// other event is delivered again. The first event may also have a span of its wait for this function to start.
func process(ctx context.Context, tracer trace.Tracer, received *event.Event, created time.Time, isFirst bool) (context.Context, func(error)) {
	parent := telemetry.SentWithin(ctx, *received)
	if !parent.IsValid() {
		return ctx, func(error) {}
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	if isFirst {
		writeColdStart(ctx, tracer, received, created)
	}
	ctx, span := telemetry.StartProcess(ctx, tracer, *received, isFirst)
	return ctx, func(err error) {
		switch {
		case err == nil:
		case IsPermanent(err):
			telemetry.Fail(span, "permanent", err.Error())
		default:
			telemetry.Note(span, "delivered again", err)
		}
		span.End()
	}
}

// writeColdStart writes the span of an event's wait, if the event was sent before this function was created. A
// longer wait than the Broker's timeout comes from a wrong clock.
func writeColdStart(ctx context.Context, tracer trace.Tracer, received *event.Event, created time.Time) {
	sentAt, _ := received.Extensions()[telemetry.SentExtension].(string)
	sent, err := time.Parse(time.RFC3339Nano, sentAt)
	if wait := created.Sub(sent); err != nil || wait <= 0 || wait > BrokerTimeout {
		return
	}
	_, span := tracer.Start(ctx, "cold start", trace.WithTimestamp(sent), trace.WithAttributes(semconv.FaaSColdstart(true)))
	span.AddEvent("process started", trace.WithTimestamp(created))
	span.End()
}
