package function

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBreakerAllowsOneTryAfterEachPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var breaker Breaker
		began := time.Now()
		var tries []string
		for range 120 {
			for range 2 { // only one of two callers may try
				if breaker.Enter("broken") {
					tries = append(tries, time.Since(began).String())
					breaker.Leave("broken", false)
				}
			}
			if !breaker.Enter("other") {
				t.Error("a failure affects another key")
			}
			time.Sleep(time.Second)
		}
		want := []string{"0s", "1s", "3s", "7s", "15s", "30s", "45s", "1m0s", "1m15s", "1m30s", "1m45s"}
		if difference := cmp.Diff(want, tries); difference != "" {
			t.Errorf("tries (-want +got):\n%s", difference)
		}
	})
}

func TestBreakerOpensAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var breaker Breaker
		if breaker.IsFailing("key") || breaker.IsShut("key") || !breaker.Enter("key") {
			t.Error("it is shut before any failure")
		}
		if !breaker.Leave("key", false) || breaker.Leave("key", false) {
			t.Error("only the first failure in a row is the first")
		}
		if !breaker.IsFailing("key") || !breaker.IsShut("key") || breaker.Enter("key") {
			t.Error("it is open after a failure")
		}
		time.Sleep(firstBackoff)
		if breaker.IsShut("key") || !breaker.Enter("key") || !breaker.IsShut("key") || !breaker.IsFailing("key") {
			t.Error("after the pause it allows one try, and no other")
		}
		if breaker.Leave("key", true) || breaker.IsFailing("key") || breaker.IsShut("key") {
			t.Error("it is shut after a success")
		}
	})
}
