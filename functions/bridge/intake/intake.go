package intake

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Publish publishes a triggered event from Keptn to the Broker. After an error the event must be offered again.
type Publish func(ctx context.Context, triggered event.Event, origin Origin) error

// Origin is how the bridge got an event.
type Origin int

const (
	// Published is an event that Keptn published just now: its task is dispatched.
	Published Origin = iota
	// Listed is an event that Keptn lists as open. It may be started, or not dispatched yet.
	Listed
)

// Intake receives the events of a stream.
type Intake struct {
	// Receiving is called whenever the stream starts to miss no event.
	Receiving func()
	// Wants reports whether events of a type are wanted at all.
	Wants func(eventType string) bool
	// Lanes bound the number of events in flight for each type.
	Lanes   *Lanes
	Publish Publish
}
