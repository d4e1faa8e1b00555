package poll

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// Metrics measure which events wait, as runmetric.Recorder does.
type Metrics interface {
	// Listing starts to measure a type, and Unlisted stops.
	Listing(ctx context.Context, eventType string)
	Unlisted(eventType string)
	// Listed records the open events of a type.
	Listed(eventType string, events []event.Event)
}

// Poller lists open events at an interval. Over HTTP this is how events arrive. Over NATS it finds events that
// were published while nobody received them.
type Poller struct {
	Lister        keptn.Lister
	Subscriptions *intake.Subscriptions
	Publish       intake.Publish
	Interval      time.Duration
	// Alone is true if events arrive in no other way.
	Alone bool
	// Jitter returns a random part of a duration.
	Jitter  func(time.Duration) time.Duration
	Metrics Metrics
	Log     *slog.Logger

	// Lanes bound the number of events in flight for each type.
	Lanes *intake.Lanes

	// soon has a channel for each listed type, with room for one request to list it at once.
	soon     sync.Map
	inFlight sync.Map
	group    sync.WaitGroup
}

// Soon requests that all types are listed at once, without waiting for the interval.
func (p *Poller) Soon() {
	p.soon.Range(func(_, request any) bool {
		select {
		case request.(chan struct{}) <- struct{}{}:
		default:
		}
		return true
	})
}

// Run polls until the context ends. Each type is listed separately, so that a type that fails or is slow does
// not delay the others. The error is always nil.
func (p *Poller) Run(ctx context.Context) error {
	defer p.group.Wait()
	listed := map[string]context.CancelFunc{}
	for changes := 0; ; changes++ {
		changed, types := p.Subscriptions.Changed(), p.Subscriptions.Types()
		exact := slices.DeleteFunc(slices.Clone(types), isNotListed)
		if len(exact) < len(types) && p.Alone {
			p.Log.WarnContext(ctx, "ignoring subscriptions: over HTTP, Keptn lists only triggered events of exact types",
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
				p.group.Go(func() { p.list(listing, eventType) })
			}
		}
		if changes > 0 {
			p.Soon() // a filter may have changed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// isNotListed reports whether Keptn cannot list a type: it is a pattern, or its events trigger no task.
func isNotListed(eventType string) bool {
	_, phase, ok := keptn.ParseType(eventType)
	return !ok || phase != keptn.Triggered || strings.ContainsAny(eventType, "*>")
}

// list lists one type until the context ends. After a failure the pause doubles, up to half a minute.
func (p *Poller) list(ctx context.Context, eventType string) {
	soon := make(chan struct{}, 1)
	p.soon.Store(eventType, soon)
	defer p.soon.CompareAndDelete(eventType, soon)
	p.Metrics.Listing(ctx, eventType)
	defer p.Metrics.Unlisted(eventType)
	pause := p.Interval
	for ctx.Err() == nil {
		began := time.Now()
		events, err := p.Lister.OpenTriggered(ctx, eventType)
		if errors.Is(err, api.ErrTokenRefused) {
			pause = api.Backoff(p.Interval, pause) // the client has logged it
		} else if err != nil && ctx.Err() == nil {
			pause = api.Backoff(p.Interval, pause)
			p.Log.WarnContext(ctx, "listing open events failed; retrying", "type", eventType, "pause", pause.String(), "error", err)
		} else {
			pause = api.Pace(p.Interval, time.Since(began))
			p.Metrics.Listed(eventType, events)
		}
		// Keptn lists the newest first.
		for _, listed := range slices.Backward(events) {
			p.start(ctx, listed)
		}
		// Several installations must not poll in step.
		jitter := p.Jitter(pause / 10)
		select {
		case <-ctx.Done():
		case <-soon:
		case <-time.After(pause + jitter):
		}
	}
}

// start publishes an event in the background once its lane has a place: the Broker may answer only after a
// cold start. It skips events in flight.
func (p *Poller) start(ctx context.Context, listed event.Event) {
	if _, loaded := p.inFlight.LoadOrStore(listed.ID(), true); loaded {
		return
	}
	leave, ok := p.Lanes.Wait(ctx, listed.Type())
	if !ok {
		p.inFlight.Delete(listed.ID())
		return
	}
	p.group.Go(func() {
		defer func() {
			p.inFlight.Delete(listed.ID())
			leave()
		}()
		if err := p.Publish(ctx, listed, intake.Listed); err != nil && ctx.Err() == nil && !errors.Is(err, function.ErrBackoff) {
			p.Log.WarnContext(ctx, "event not published; retrying", "id", listed.ID(), "type", listed.Type(), "error", err)
		}
	})
}
