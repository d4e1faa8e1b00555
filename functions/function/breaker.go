package function

import (
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/util/flowcontrol"
)

// ErrBackoff means that a call was not made, because it failed a moment ago.
var ErrBackoff = errors.New("backing off after a failure")

// firstBackoff and lastBackoff bound the pause after a failed call.
const (
	firstBackoff = time.Second
	lastBackoff  = 15 * time.Second
)

// Breaker stops calls that keep failing, by key: of a neighbour, a token or a sequence. After each pause it
// allows one try. Pauses double. The zero value is ready. Safe for concurrent use.
type Breaker struct {
	mutex   sync.Mutex
	backoff *flowcontrol.Backoff
}

// Enter returns false if the call must not be tried now.
func (b *Breaker) Enter(key string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.isShut(key) {
		return false
	}
	if b.isFailing(key) {
		b.backoff.Next(key, time.Now()) // one try at a time
	}
	return true
}

// IsShut reports whether Enter would return false, without starting a try.
func (b *Breaker) IsShut(key string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.isShut(key)
}

// IsFailing reports whether the last call failed.
func (b *Breaker) IsFailing(key string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.isFailing(key)
}

// Leave records whether a call succeeded. It returns true at the first failure in a row.
func (b *Breaker) Leave(key string, succeeded bool) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.backoff == nil {
		b.backoff = flowcontrol.NewBackOff(firstBackoff, lastBackoff)
	}
	switch {
	case succeeded:
		b.backoff.DeleteEntry(key)
		return false
	case b.isFailing(key):
		return false // Enter has doubled the pause
	default:
		b.backoff.GC()
		b.backoff.Next(key, time.Now())
		return true
	}
}

func (b *Breaker) isFailing(key string) bool { return b.backoff != nil && b.backoff.Get(key) > 0 }

func (b *Breaker) isShut(key string) bool {
	return b.backoff != nil && b.backoff.IsInBackOffSinceUpdate(key, time.Now())
}
