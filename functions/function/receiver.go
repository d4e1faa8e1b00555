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
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// Handler does what a function is there for: it answers one event with another
// one or with nothing. An event may be delivered any number of times; doing it
// again must change nothing. An error means that the event was not handled:
// it is delivered again, unless the error is Permanent.
type Handler func(ctx context.Context, received event.Event) (*event.Event, error)

// Receiver makes a Handler an http.Handler for CloudEvents in binary or
// structured mode, of at most maxBytes. What is done for an event that was sent within a
// trace is a span of that trace, and so is what the reply leads to.
func Receiver(handle Handler, maxBytes int64, signals *telemetry.Signals) http.Handler {
	log, tracer := signals.Log, signals.Tracers.Tracer("function")
	var started atomic.Bool
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
			err = Permanent(fmt.Errorf("reading the event: %w", err))
			signals.Events.Received(ctx, unknownType, began, ErrorType(err))
			fail(ctx, writer, log, err)
			return
		}
		log := log.With("type", received.Type(), "source", received.Source())
		ctx = telemetry.WithEvent(ctx, *received)
		ctx, end := process(ctx, tracer, received, !started.Swap(true))
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
			// Knative takes a success with a body that is no event for a failure, so
			// there is none.
			writer.WriteHeader(http.StatusAccepted)
			return
		}
		log.InfoContext(ctx, "event handled", "reply", reply.Type())
		if trace.SpanContextFromContext(ctx).IsValid() {
			reply = new(within(ctx, *reply)) // else it says itself within which it is, if any
		}
		err = cehttp.WriteResponseWriter(ctx, binding.ToMessage(reply), http.StatusOK, writer)
		signals.Events.Sent(ctx, reply.Type(), ErrorType(err))
		if err != nil {
			log.ErrorContext(ctx, "writing the reply failed", "error", err)
		}
	})
}

// unknownType stands for the type of what is no event.
const unknownType = "_OTHER"

func fail(ctx context.Context, writer http.ResponseWriter, log *slog.Logger, err error) {
	status := statusOf(err)
	log.WarnContext(ctx, "event not handled", "status", status, "error", err)
	// The sentence reaches the dead letter sink as knativeerrordata.
	http.Error(writer, err.Error(), status)
}

// process starts the span of what is done for an event, if it was sent within a trace. Its
// end marks it only for an error that is final: what is delivered again may still do.
func process(ctx context.Context, tracer trace.Tracer, received *event.Event, isFirst bool) (context.Context, func(error)) {
	traceparent, _ := received.Extensions()[telemetry.Extension].(string)
	parent := telemetry.Parse(ctx, traceparent)
	if !parent.IsValid() {
		return ctx, func(error) {}
	}
	ctx, span := tracer.Start(trace.ContextWithRemoteSpanContext(ctx, parent), "process "+received.Type(),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(telemetry.EventAttributes(*received)...),
		trace.WithAttributes(attribute.String("messaging.operation.type", "process"), attribute.Bool("faas.coldstart", isFirst)))
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

// within returns an event as one that is sent within the context's span, if there is one.
func within(ctx context.Context, outgoing event.Event) event.Event {
	outgoing = outgoing.Clone()
	outgoing.SetExtension(telemetry.Extension, nil)
	if traceparent := telemetry.Text(ctx); traceparent != "" {
		outgoing.SetExtension(telemetry.Extension, traceparent)
	}
	return outgoing
}
