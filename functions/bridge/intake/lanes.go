package intake

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// ConcurrentSends is the number of events of one type that may be in flight to the Broker.
	ConcurrentSends = 32
	// maxQueuedBytes bounds the events of one type that wait in memory: about 1,000 typical ones.
	maxQueuedBytes = 4 << 20
)

// Lanes bound the events in flight for each event type separately, so that an executor that does not come up
// does not delay events of other types. The zero value is ready. Safe for concurrent use.
type Lanes struct{ lanes sync.Map }

type lane struct{ sends, queue *semaphore.Weighted }

// Turn waits for a place in a lane, and returns a function that frees it; false if the context ends first.
type Turn func(ctx context.Context) (leave func(), ok bool)

// Queue adds an event of a size in bytes to the queue of its type's lane; false if the queue is full. The caller must
// call the turn once.
func (l *Lanes) Queue(eventType string, size int) (turn Turn, ok bool) {
	queue := l.lane(eventType).queue
	if !queue.TryAcquire(int64(size)) {
		return nil, false
	}
	return func(ctx context.Context) (func(), bool) {
		defer queue.Release(int64(size))
		return l.Wait(ctx, eventType)
	}, true
}

// Wait takes a place in the lane of a type, and returns a function that frees it; false if the context ends first.
func (l *Lanes) Wait(ctx context.Context, eventType string) (leave func(), ok bool) {
	sends := l.lane(eventType).sends
	return func() { sends.Release(1) }, sends.Acquire(ctx, 1) == nil
}

func (l *Lanes) lane(eventType string) lane {
	found, _ := l.lanes.LoadOrStore(eventType, lane{semaphore.NewWeighted(ConcurrentSends), semaphore.NewWeighted(maxQueuedBytes)})
	return found.(lane)
}
