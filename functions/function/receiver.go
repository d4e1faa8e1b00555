package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// Handler does what a function is there for: it answers one event with another
// one or with nothing. An event may be delivered any number of times; doing it
// again must change nothing. An error means that the event was not handled:
// it is delivered again, unless the error is Permanent.
type Handler func(ctx context.Context, received event.Event) (*event.Event, error)

// Receiver makes a Handler an http.Handler for CloudEvents in binary or
// structured mode, of at most maxBytes.
func Receiver(handle Handler, maxBytes int64, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPost {
			http.Error(writer, "events are received by POST", http.StatusMethodNotAllowed)
			return
		}
		ctx, started := request.Context(), time.Now()
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
			fail(ctx, writer, log, Permanent(fmt.Errorf("reading the event: %w", err)))
			return
		}
		log := log.With("id", received.ID(), "type", received.Type(), "source", received.Source())
		reply, err := handle(ctx, *received)
		if err != nil {
			fail(ctx, writer, log, err)
			return
		}
		log = log.With("duration", time.Since(started).Round(time.Millisecond).String())
		if reply == nil {
			log.InfoContext(ctx, "event handled, no reply")
			// Knative takes a success with a body that is no event for a failure, so
			// there is none.
			writer.WriteHeader(http.StatusAccepted)
			return
		}
		log.InfoContext(ctx, "event handled", "reply", reply.Type())
		if err := cehttp.WriteResponseWriter(ctx, binding.ToMessage(reply), http.StatusOK, writer); err != nil {
			log.ErrorContext(ctx, "writing the reply failed", "error", err)
		}
	})
}

func fail(ctx context.Context, writer http.ResponseWriter, log *slog.Logger, err error) {
	status := statusOf(err)
	log.WarnContext(ctx, "event not handled", "status", status, "error", err)
	// The sentence reaches the dead letter sink as knativeerrordata.
	http.Error(writer, err.Error(), status)
}
