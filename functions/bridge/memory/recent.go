package memory

import (
	"math"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// size bounds the number of keys.
	size = 10000
	// lifetime is how long an unused value is kept. Values of unfinished work are used more often.
	lifetime = time.Hour
)

// Recent stores a value for each of a bounded number of keys, for an hour after its last use. Its zero value is ready. It is not safe
// for concurrent use.
type Recent[Value any] struct {
	values *simplelru.LRU[string, *recent[Value]]
}

type recent[Value any] struct {
	value Value
	used  time.Time
}

// Of returns a pointer to the value of a key. The value of a new key is zero.
func (r *Recent[Value]) Of(key string) *Value {
	return r.of(key, func(*Value) bool { return false })
}

// of does the same, and keeps the values that are held.
func (r *Recent[Value]) of(key string, isHeld func(value *Value) bool) *Value {
	now := time.Now()
	if r.values == nil {
		// The size is bounded below, because values that are held must not be evicted. NewLRU only fails for a size that is
		// not positive.
		r.values, _ = simplelru.NewLRU[string, *recent[Value]](math.MaxInt, nil)
	}
	entry, ok := r.values.Get(key)
	if !ok {
		entry = &recent[Value]{}
		r.values.Add(key, entry)
	}
	entry.used = now
	for surplus := r.values.Len() - size; ; surplus-- {
		key, oldest, _ := r.values.GetOldest()
		if oldest == entry || surplus <= 0 && now.Sub(oldest.used) <= lifetime {
			return &entry.value
		}
		if isHeld(&oldest.value) {
			r.values.Get(key) // make it the newest
			oldest.used = now
			continue
		}
		r.values.Remove(key)
	}
}
