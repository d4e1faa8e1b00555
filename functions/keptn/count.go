package keptn

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Lister lists the triggered events of one type that Keptn holds open.
type Lister interface {
	OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error)
}

// Starter knows whether a task's run has begun, as the bridge's reporter does.
type Starter interface {
	HasStarted(ctx context.Context, task Task) (bool, error)
}

// Counter asks Keptn what it has counted for a task.
type Counter interface {
	Count(ctx context.Context, task Task) (Count, error)
}

// Standing is the state of a task in Keptn.
type Standing int

const (
	// Unknown is a task that Keptn does not know, yet or any more.
	Unknown Standing = iota
	// Pending is a task whose triggered event is listed but not dispatched, or whose sequence is paused. Keptn
	// answers a started event with 200 and drops it (recording 30-started-too-early-dropped).
	Pending
	// Current is a task whose events Keptn counts.
	Current
	// Completed is a task with as many finished as started events. Keptn ignores all further events.
	Completed
	// Aborted is a task whose sequence was aborted, or timed out.
	Aborted
)

// Count is what Keptn has counted for a task.
type Count struct {
	Standing Standing
	// Started and Finished are the numbers of our counted events.
	Started, Finished int
	// Archived is true if Keptn's archive was counted, because shipyard-controller does not know the task.
	Archived bool
	// Sequence is the sequence of the task; without an ID if unknown.
	Sequence Sequence
}

// Sequence is a run of a stage's sequence. One Keptn context has a sequence for each stage.
type Sequence struct {
	// ID is the id of the triggered event.
	ID string
	// Name is the name in the shipyard, without the stage.
	Name        string
	TriggeredAt time.Time
	// Result is empty while the sequence runs. FailedTask is the failed task, if any.
	Result     RunResult
	FailedTask string
	// Previous is the ID of the previous sequence in the same context; empty for the first one.
	Previous string
}

// Over reports whether Keptn no longer waits for the task.
func (c Count) Over() bool { return c.Standing == Completed || c.Standing == Aborted }
