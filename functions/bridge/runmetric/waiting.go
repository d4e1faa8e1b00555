package runmetric

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/keptn"
)

// waiting has the listed events that have not started. An event that disappears from the list was started
// elsewhere, or never will be.
type waiting struct {
	mutex sync.Mutex
	types map[string]listed
}

// listed has the open events of a type.
type listed struct {
	// at is the time of the last successful listing; initially that of the first attempt.
	at time.Time
	// since has the waiting events by id, with the start of the wait.
	since map[string]time.Time
	// over has answered open events, for example because nothing matches. Others may still work on
	// them.
	over map[string]bool
}

// Listing starts to measure a type. Counters of failures start at 0: nobody notices a counter that starts at 1.
func (r *Recorder) Listing(ctx context.Context, eventType string) {
	r.events.Expect(ctx, eventType)
	for _, phase := range []keptn.Phase{keptn.Started, keptn.Finished} {
		r.dropped.Add(ctx, 0, ofPhase(phase))
	}
	r.Listed(eventType, nil)
}

// Listed records the open events of a type.
func (r *Recorder) Listed(eventType string, events []event.Event) {
	r.waiting.mutex.Lock()
	defer r.waiting.mutex.Unlock()
	if r.waiting.types == nil {
		r.waiting.types = map[string]listed{}
	}
	of, ok := r.waiting.types[eventType]
	if !ok {
		of = listed{since: map[string]time.Time{}, over: map[string]bool{}}
	}
	open := map[string]bool{}
	for _, listed := range events {
		open[listed.ID()] = true
	}
	maps.DeleteFunc(of.since, func(id string, _ time.Time) bool { return !open[id] })
	maps.DeleteFunc(of.over, func(id string, _ bool) bool { return !open[id] })
	of.at = r.now()
	r.waiting.types[eventType] = of
}

// Unlisted stops to measure a type.
func (r *Recorder) Unlisted(eventType string) {
	r.waiting.mutex.Lock()
	defer r.waiting.mutex.Unlock()
	delete(r.waiting.types, eventType)
}

// Waits records whether a listed task must still be started.
func (r *Recorder) Waits(task keptn.Task, waits bool) {
	if !waits {
		r.waiting.remove(task)
		return
	}
	r.waiting.change(task, func(of listed) {
		if !of.over[task.TriggeredID] {
			of.since[task.TriggeredID] = task.TriggeredAt
		}
	})
}

// end removes a task from the waiting ones for good, even if Keptn still lists it.
func (w *waiting) end(task keptn.Task) {
	w.change(task, func(of listed) {
		delete(of.since, task.TriggeredID)
		of.over[task.TriggeredID] = true
	})
}

func (w *waiting) remove(task keptn.Task) {
	w.change(task, func(of listed) { delete(of.since, task.TriggeredID) })
}

// change changes the entry of a task's type, if the type is listed.
func (w *waiting) change(task keptn.Task, change func(of listed)) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if of, ok := w.types[keptn.TypeOf(task.Name, keptn.Triggered)]; ok {
		change(of)
	}
}

// oldest returns the start of the longest wait, zero if no event waits; the oldest time of a successful
// listing; and whether any type is listed.
func (w *waiting) oldest() (since, listed time.Time, isListing bool) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, of := range w.types {
		if listed.IsZero() || of.at.Before(listed) {
			listed = of.at
		}
		for _, triggered := range of.since {
			if since.IsZero() || triggered.Before(since) {
				since = triggered
			}
		}
	}
	return since, listed, len(w.types) > 0
}
