package run

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// CancelledType is the type of the event that tells that nobody waits for a run
// any more.
const CancelledType = "io.github.job-executor.run.cancelled"

type cancellation struct {
	RunID string `json:"runID"`
}

// Cancelled returns the cancellation of a run, with the same id every time.
func Cancelled(source, runID string, at time.Time) (event.Event, error) {
	cancelled := event.New()
	cancelled.SetID(runID + "-cancelled")
	cancelled.SetType(CancelledType)
	cancelled.SetSource(source)
	cancelled.SetTime(at)
	if err := cancelled.SetData(event.ApplicationJSON, cancellation{RunID: runID}); err != nil {
		return event.Event{}, fmt.Errorf("encoding the cancellation of run %s: %w", runID, err)
	}
	return cancelled, nil
}

// CancellationOf returns the id of the run that an event cancels.
func CancellationOf(cancelled event.Event) (string, error) {
	var data cancellation
	if err := cancelled.DataAs(&data); err != nil {
		return "", fmt.Errorf("reading the data of event %s: %w", cancelled.ID(), err)
	}
	if data.RunID == "" {
		return "", errors.New("event " + cancelled.ID() + " names no run")
	}
	return data.RunID, nil
}
