package protocol

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Sender publishes an event to the Broker, or sends one to Keptn. The Broker's success means that it has
// the event; Keptn's success does not mean that it counts the event.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}
