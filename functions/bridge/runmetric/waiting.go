package runmetric

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/metric"

	"github.com/job-executor/job-executor/functions/keptn"
)

// waiting is what was listed and has not begun. What is listed no longer has begun elsewhere,
// or never will.
type waiting struct {
	mutex sync.Mutex
	types map[string]listed
}

// listed is what is known of a type of which Keptn lists open events.
type listed struct {
	// at is when it could be listed last; at first, when it was asked for.
	at time.Time
	// since are the events that wait, by their ids, and since when.
	since map[string]time.Time
	// over are those that are open, and have been answered, such as one for which nothing is to be
	// run: others may still be at it.
	over map[string]bool
}

// Listing says that the open events of a type are listed from now on. What counts failures, and
// what was in vain, begins at none: of a counter that begins at one nobody sees that it rose.
func (r *Recorder) Listing(ctx context.Context, eventType string) {
	r.events.Expect(ctx, eventType)
	if task, _, ok := keptn.ParseType(eventType); ok {
		for _, result := range keptn.FailedResults() {
			r.errors.Add(ctx, 0, metric.WithAttributes(ofTask(task), failedAs(result)))
		}
	}
	for _, phase := range []keptn.Phase{keptn.Started, keptn.Finished} {
		r.dropped.Add(ctx, 0, ofPhase(phase))
	}
	r.Listed(eventType, nil)
}

// Listed says that the open events of a type were listed.
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

// Unlisted says that the events of a type are listed no longer.
func (r *Recorder) Unlisted(eventType string) {
	r.waiting.mutex.Lock()
	defer r.waiting.mutex.Unlock()
	delete(r.waiting.types, eventType)
}

// Waits says of a task that was listed whether it has to be started.
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

// end has a task wait no longer, however often it is listed.
func (w *waiting) end(task keptn.Task) {
	w.change(task, func(of listed) {
		delete(of.since, task.TriggeredID)
		of.over[task.TriggeredID] = true
	})
}

func (w *waiting) remove(task keptn.Task) {
	w.change(task, func(of listed) { delete(of.since, task.TriggeredID) })
}

// change changes what is known of a task's type, if that is listed.
func (w *waiting) change(task keptn.Task, change func(of listed)) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if of, ok := w.types[keptn.TypeOf(task.Name, keptn.Triggered)]; ok {
		change(of)
	}
}

// oldest is since when an event waits, zero if none does, and since when not every type could
// be listed; and whether any is.
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
