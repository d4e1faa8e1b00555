package bridge

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Lister lists the triggered events of one type that Keptn holds open.
type Lister interface {
	OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error)
}

// Poller looks for open events again and again. Over HTTP that is how events
// arrive; over NATS it finds what was triggered while nobody listened.
type Poller struct {
	Lister        Lister
	Subscriptions *Subscriptions
	Take          Take
	Interval      time.Duration
	// Alone says that nothing else brings events.
	Alone bool
	// Jitter returns a random part of a duration.
	Jitter func(time.Duration) time.Duration
	Log    *slog.Logger

	underWay sync.Map
	slots    chan struct{}
	group    sync.WaitGroup
}

const (
	// concurrentSends bounds how many events go to the Broker at a time.
	concurrentSends = 32
	// maxBackoff is the longest pause after Keptn could not be asked.
	maxBackoff = 30 * time.Second
)

// Run polls until the context ends. When Keptn can't be asked it tries again,
// after a pause that doubles up to half a minute, for ever.
func (poller *Poller) Run(ctx context.Context) error {
	poller.slots = make(chan struct{}, concurrentSends)
	defer poller.group.Wait()
	pause := poller.Interval
	for told := false; ; {
		changed := poller.Subscriptions.Changed()
		if patterns := poller.patterns(); !told && poller.Alone && len(patterns) > 0 {
			poller.Log.WarnContext(ctx, "over HTTP Keptn lists events of exact types only; these subscriptions bring nothing", "subscriptions", patterns)
			told = true
		}
		if err := poller.poll(ctx); err != nil && ctx.Err() == nil {
			pause = min(max(2*pause, time.Second), max(maxBackoff, poller.Interval))
			poller.Log.WarnContext(ctx, "listing open events failed, will be tried again", "pause", pause.String(), "error", err)
		} else {
			pause = poller.Interval
		}
		// Up to a tenth more, so that several installations do not poll in step.
		jitter := poller.Jitter(pause / 10)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			told = false
		case <-time.After(pause + jitter):
		}
	}
}

// patterns are the subscriptions to more than one type.
func (poller *Poller) patterns() []string {
	return slices.DeleteFunc(poller.Subscriptions.Types(), func(eventType string) bool { return !isPattern(eventType) })
}

func isPattern(eventType string) bool { return strings.ContainsAny(eventType, "*>") }

func (poller *Poller) poll(ctx context.Context) error {
	for _, eventType := range poller.Subscriptions.Types() {
		if isPattern(eventType) {
			continue // Keptn lists exact types only
		}
		events, err := poller.Lister.OpenTriggered(ctx, eventType)
		if err != nil {
			return err
		}
		// Keptn lists the newest first.
		for index := len(events) - 1; index >= 0; index-- {
			poller.start(ctx, events[index])
		}
	}
	return nil
}

// start takes an event in the background: the Broker may answer only after a
// cold start. One that is under way is not taken twice; when all slots are taken,
// it waits for one.
func (poller *Poller) start(ctx context.Context, listed event.Event) {
	if _, loaded := poller.underWay.LoadOrStore(listed.ID(), true); loaded {
		return
	}
	select {
	case poller.slots <- struct{}{}:
	case <-ctx.Done():
		poller.underWay.Delete(listed.ID())
		return
	}
	poller.group.Go(func() {
		defer func() {
			poller.underWay.Delete(listed.ID())
			<-poller.slots
		}()
		if err := poller.Take(ctx, listed, Listed); err != nil && ctx.Err() == nil {
			poller.Log.WarnContext(ctx, "event not taken, will be tried again", "id", listed.ID(), "type", listed.Type(), "error", err)
		}
	})
}
