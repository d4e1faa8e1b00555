package inward

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// Take takes a triggered event from Keptn. An error means that it has to be
// offered again.
type Take func(ctx context.Context, triggered event.Event, origin Origin) error

// Poller looks for open events again and again. Over HTTP that is how events
// arrive; over NATS it finds what was triggered while nobody listened.
type Poller struct {
	Lister        keptn.Lister
	Subscriptions *Subscriptions
	Take          Take
	Interval      time.Duration
	// Alone says that nothing else brings events.
	Alone bool
	// Jitter returns a random part of a duration.
	Jitter  func(time.Duration) time.Duration
	Metrics Metrics
	Log     *slog.Logger

	// Lanes bound how many events of each type go to the Broker at a time.
	Lanes *Lanes

	// soon holds for each type that is listed a channel with room for one wish to list it
	// without waiting for the interval.
	soon     sync.Map
	underWay sync.Map
	group    sync.WaitGroup
}

// Soon has the open events listed without waiting for the interval.
func (poller *Poller) Soon() {
	poller.soon.Range(func(_, wish any) bool {
		select {
		case wish.(chan struct{}) <- struct{}{}:
		default:
		}
		return true
	})
}

// concurrentSends bounds how many events of one type go to the Broker at a time.
const concurrentSends = 32

// Run polls until the context ends, each type on its own: one that can't be listed, or is
// slow, does not hold the others back.
func (poller *Poller) Run(ctx context.Context) error {
	defer poller.group.Wait()
	listed := map[string]context.CancelFunc{}
	for changes := 0; ; changes++ {
		changed, types := poller.Subscriptions.Changed(), poller.Subscriptions.Types()
		exact := slices.DeleteFunc(slices.Clone(types), isNotListed)
		if len(exact) < len(types) && poller.Alone {
			poller.Log.WarnContext(ctx, "over HTTP Keptn lists triggered events of exact types only; these subscriptions bring nothing",
				"subscriptions", slices.DeleteFunc(types, func(eventType string) bool { return !isNotListed(eventType) }))
		}
		for eventType, end := range listed {
			if !slices.Contains(exact, eventType) {
				end()
				delete(listed, eventType)
			}
		}
		for _, eventType := range exact {
			if listed[eventType] == nil {
				var listing context.Context
				listing, listed[eventType] = context.WithCancel(ctx)
				poller.group.Go(func() { poller.list(listing, eventType) })
			}
		}
		if changes > 0 {
			poller.Soon() // a filter may be another one
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// isNotListed says whether Keptn lists nothing of a type: it is a pattern, or that of an
// event that triggers no task.
func isNotListed(eventType string) bool {
	_, phase, ok := keptn.ParseType(eventType)
	return !ok || phase != keptn.Triggered || strings.ContainsAny(eventType, "*>")
}

// list lists one type until the context ends. When Keptn can't be asked it tries again,
// after a pause that doubles up to half a minute, for ever.
func (poller *Poller) list(ctx context.Context, eventType string) {
	soon := make(chan struct{}, 1)
	poller.soon.Store(eventType, soon)
	defer poller.soon.CompareAndDelete(eventType, soon)
	poller.Metrics.Listing(ctx, eventType)
	defer poller.Metrics.Unlisted(eventType)
	pause := poller.Interval
	for ctx.Err() == nil {
		began := time.Now()
		events, err := poller.Lister.OpenTriggered(ctx, eventType)
		if errors.Is(err, api.ErrTokenRefused) {
			pause = api.Backoff(poller.Interval, pause) // the client has said so
		} else if err != nil && ctx.Err() == nil {
			pause = api.Backoff(poller.Interval, pause)
			poller.Log.WarnContext(ctx, "listing open events failed, will be tried again", "type", eventType, "pause", pause.String(), "error", err)
		} else {
			pause = api.Pace(poller.Interval, time.Since(began))
			poller.Metrics.Listed(eventType, events)
		}
		// Keptn lists the newest first.
		for _, listed := range slices.Backward(events) {
			poller.start(ctx, listed)
		}
		// Up to a tenth more, so that several installations do not poll in step.
		jitter := poller.Jitter(pause / 10)
		select {
		case <-ctx.Done():
		case <-soon:
		case <-time.After(pause + jitter):
		}
	}
}

// start takes an event in the background, once there is a place for it: the Broker may
// answer only after a cold start. One that is under way is not taken twice.
func (poller *Poller) start(ctx context.Context, listed event.Event) {
	if _, loaded := poller.underWay.LoadOrStore(listed.ID(), true); loaded {
		return
	}
	leave, ok := poller.Lanes.Wait(ctx, listed.Type())
	if !ok {
		poller.underWay.Delete(listed.ID())
		return
	}
	poller.group.Go(func() {
		defer func() {
			poller.underWay.Delete(listed.ID())
			leave()
		}()
		if err := poller.Take(ctx, listed, Listed); err != nil && ctx.Err() == nil && !errors.Is(err, ErrBackoff) {
			poller.Log.WarnContext(ctx, "event not taken, will be tried again", "id", listed.ID(), "type", listed.Type(), "error", err)
		}
	})
}
