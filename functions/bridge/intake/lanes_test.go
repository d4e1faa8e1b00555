package intake

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestLanesBoundEachTypeOnItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lanes Lanes
		var leave func()
		ctx, cancel := context.WithCancel(t.Context())
		for range ConcurrentSends {
			leave, _ = lanes.Wait(ctx, "one")
		}
		if _, ok := lanes.Wait(ctx, "other"); !ok {
			t.Error("another type has no place")
		}
		waited := make(chan bool, 2)
		go func() {
			_, ok := lanes.Wait(ctx, "one")
			waited <- ok
		}()
		synctest.Wait()
		if len(waited) > 0 {
			t.Error("it did not wait")
		}
		leave()
		if !<-waited {
			t.Error("a place was given back, and nobody got it")
		}
		cancel()
		if _, ok := lanes.Wait(ctx, "one"); ok {
			t.Error("there is a place for who has left")
		}
	})
}

func TestQueueIsBoundedByItsBytes(t *testing.T) {
	var lanes Lanes
	half, ok := lanes.Queue("one", maxQueuedBytes/2)
	if !ok {
		t.Fatal("an empty queue is full")
	}
	if _, ok := lanes.Queue("one", maxQueuedBytes/2+1); ok {
		t.Error("the queue takes more than its bytes")
	}
	if _, ok := lanes.Queue("other", maxQueuedBytes); !ok {
		t.Error("another type's queue is full")
	}
	if leave, ok := half(t.Context()); !ok {
		t.Error("there is no place")
	} else {
		leave()
	}
	if _, ok := lanes.Queue("one", maxQueuedBytes); !ok {
		t.Error("an event that left the queue still counts")
	}
}
