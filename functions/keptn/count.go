package keptn

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Lister lists the triggered events of one type that Keptn holds open.
type Lister interface {
	OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error)
}

// Starter knows whether the run of a task has begun, as the bridge's reporter does.
type Starter interface {
	HasStarted(ctx context.Context, task Task) (bool, error)
}

// Counter asks Keptn what it has counted for a task.
type Counter interface {
	Count(ctx context.Context, task Task) (Count, error)
}

// Standing is where Keptn is with a task, as it says itself.
type Standing int

const (
	// Unknown is a task of which Keptn knows nothing (yet, or any more).
	Unknown Standing = iota
	// Pending is a task whose triggered event is listed, but not dispatched yet,
	// or whose sequence is paused. Keptn answers 200 to a started event and drops it
	// (recording 30-started-too-early-dropped).
	Pending
	// Current is a task for which Keptn counts what is sent for it.
	Current
	// Completed is a task for which as many finished as started events were counted.
	// Keptn ignores whatever is still sent for it.
	Completed
	// Aborted is a task whose sequence was aborted, or timed out.
	Aborted
)

// Count is what Keptn has counted for a task.
type Count struct {
	Standing Standing
	// Started and Finished are how many events of ours were counted.
	Started, Finished int
}

// Over says whether Keptn no longer waits for the task.
func (c Count) Over() bool { return c.Standing == Completed || c.Standing == Aborted }
