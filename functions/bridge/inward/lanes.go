package inward

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Lanes bound how much is under way, for each event type on its own: an executor that
// does not come up holds nobody else's events back. The zero value is ready.
type Lanes struct{ lanes sync.Map }

// Enter takes a place in the lane of a type, false if there is none. Leave gives it back.
func (lanes *Lanes) Enter(eventType string) (leave func(), ok bool) {
	lane := lanes.lane(eventType)
	return func() { lane.Release(1) }, lane.TryAcquire(1)
}

// Wait waits for a place in the lane of a type, until the context ends; then it is false.
func (lanes *Lanes) Wait(ctx context.Context, eventType string) (leave func(), ok bool) {
	lane := lanes.lane(eventType)
	return func() { lane.Release(1) }, lane.Acquire(ctx, 1) == nil
}

func (lanes *Lanes) lane(eventType string) *semaphore.Weighted {
	made, _ := lanes.lanes.LoadOrStore(eventType, semaphore.NewWeighted(concurrentSends))
	return made.(*semaphore.Weighted)
}
