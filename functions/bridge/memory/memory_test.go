package memory

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// holder returns a function that holds the value of a key.
func holder(t *testing.T, memory *Memory[string]) func(key string) (value *string, release func()) {
	t.Helper()
	return func(key string) (*string, func()) {
		t.Helper()
		value, release, err := memory.Hold(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return value, release
	}
}

// Held and recent values stay. The oldest of the others is evicted.
func TestTheOldestFallsOutUnlessItIsHeld(t *testing.T) {
	var memory Memory[string]
	hold := holder(t, &memory)
	for _, key := range []string{"held", "asked for", "old"} {
		value, release := hold(key)
		if *value = key; key != "held" {
			release()
		}
	}
	for number := range size {
		_, release := hold("asked for")
		release()
		_, release = hold(strconv.Itoa(number))
		release()
	}
	if length := memory.values.values.Len(); length != size {
		t.Errorf("it has %d values, not %d", length, size)
	}
	for key, want := range map[string]string{"asked for": "asked for", "old": ""} {
		value, release := hold(key)
		if *value != want {
			t.Errorf("of %s it has %q", key, *value)
		}
		release()
	}
	if !memory.values.values.Contains("held") {
		t.Error("what is held fell out")
	}
}

// Values in use are skipped at an eviction, and others are evicted at once.
func TestHeldValuesDoNotKeepOthers(t *testing.T) {
	var memory Memory[int]
	for _, key := range []string{"held", "held, too"} {
		if _, _, err := memory.Hold(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for number := range 2 * size {
		_, release, err := memory.Hold(t.Context(), strconv.Itoa(number))
		if err != nil {
			t.Fatal(err)
		}
		release()
		if length := memory.values.values.Len(); length > size+1 {
			t.Fatalf("it has %d values, more than %d", length, size+1)
		}
	}
	if !memory.values.values.Contains("held") || !memory.values.values.Contains("held, too") {
		t.Error("a value in use was evicted")
	}
}

// Unused values are forgotten, however few there are, so that the memory of a bridge does not grow for its first 10,000 tasks.
func TestUnusedValuesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var memory Memory[string]
		hold := holder(t, &memory)
		for _, key := range []string{"held", "used", "unused"} {
			value, release := hold(key)
			if *value = key; key != "held" {
				release()
			}
		}
		time.Sleep(lifetime)
		_, release := hold("used")
		release()
		time.Sleep(time.Second)
		_, release = hold("new")
		release()
		got := map[string]bool{}
		for _, key := range memory.values.values.Keys() {
			got[key] = true
		}
		if diff := cmp.Diff(map[string]bool{"held": true, "used": true, "new": true}, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestAValueIsForOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var memory Memory[int]
		value, release, err := memory.Hold(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		failed := make(chan error)
		go func() {
			_, _, err := memory.Hold(ctx, "key")
			failed <- err
		}()
		got := make(chan int)
		go func() {
			waited, release, err := memory.Hold(t.Context(), "key")
			if err != nil {
				t.Error(err)
			}
			got <- *waited
			release()
		}()
		synctest.Wait()
		cancel(stopped)
		if err := <-failed; !errors.Is(err, stopped) {
			t.Errorf("got %v", err)
		}
		*value = 7
		release()
		if waited := <-got; waited != 7 {
			t.Errorf("got %d", waited)
		}
	})
}
