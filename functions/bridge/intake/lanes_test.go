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
		for range ConcurrentSends {
			var ok bool
			if leave, ok = lanes.Enter("one"); !ok {
				t.Fatal("there is no place")
			}
		}
		if _, ok := lanes.Enter("one"); ok {
			t.Error("there is one place more")
		}
		if _, ok := lanes.Enter("other"); !ok {
			t.Error("another type has no place")
		}
		ctx, cancel := context.WithCancel(t.Context())
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
