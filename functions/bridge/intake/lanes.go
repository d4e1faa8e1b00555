package intake

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// ConcurrentSends is the number of events of one type that may be in flight to the Broker.
const ConcurrentSends = 32

// Lanes bound the events in flight for each event type separately, so that an executor that does not come up
// does not delay events of other types. The zero value is ready. Safe for concurrent use.
type Lanes struct{ lanes sync.Map }

// Enter takes a place in the lane of a type, and returns a function that frees it; false if the lane is full.
func (l *Lanes) Enter(eventType string) (leave func(), ok bool) {
	lane := l.lane(eventType)
	return func() { lane.Release(1) }, lane.TryAcquire(1)
}

// Wait is Enter, but waits for a place. It returns false if the context ends first.
func (l *Lanes) Wait(ctx context.Context, eventType string) (leave func(), ok bool) {
	lane := l.lane(eventType)
	return func() { lane.Release(1) }, lane.Acquire(ctx, 1) == nil
}

func (l *Lanes) lane(eventType string) *semaphore.Weighted {
	lane, _ := l.lanes.LoadOrStore(eventType, semaphore.NewWeighted(ConcurrentSends))
	return lane.(*semaphore.Weighted)
}
