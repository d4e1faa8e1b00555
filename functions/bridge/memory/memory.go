package memory

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// size bounds the number of keys.
const size = 10000

// Memory stores a value for each of a bounded number of keys. It evicts the least recently used one that nobody
// holds. It is safe for concurrent use, and its zero value is ready.
type Memory[Value any] struct {
	mutex  sync.Mutex
	values *simplelru.LRU[string, *remembered[Value]]
}

// remembered is a value and the turn of its user. The turn is a channel, so that waiting ends with a context.
type remembered[Value any] struct {
	turn  chan struct{}
	value Value
	// users is how many hold the value or wait for it.
	users int
}

// Hold returns the value of a key, initially a zero value, for exclusive use until release is called. It waits
// while another caller holds it, and returns an error if the context ends first.
func (m *Memory[Value]) Hold(ctx context.Context, key string) (value *Value, release func(), err error) {
	entry := m.of(key)
	leave := func() {
		m.mutex.Lock()
		entry.users--
		m.mutex.Unlock()
	}
	select {
	case entry.turn <- struct{}{}:
		return &entry.value, func() { <-entry.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, nil, fmt.Errorf("wait for another delivery for task %s: %w", key, context.Cause(ctx))
	}
}

func (m *Memory[Value]) of(key string) *remembered[Value] {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.values == nil {
		// The size is bounded here, because values in use must not be evicted. NewLRU only fails for a size
		// that is not positive.
		m.values, _ = simplelru.NewLRU[string, *remembered[Value]](math.MaxInt, nil)
	}
	entry, ok := m.values.Get(key)
	if !ok {
		entry = &remembered[Value]{turn: make(chan struct{}, 1)}
		m.values.Add(key, entry)
	}
	entry.users++
	for surplus := m.values.Len() - size; surplus > 0; surplus-- {
		oldest, candidate, _ := m.values.GetOldest()
		if candidate.users > 0 {
			m.values.Get(oldest) // in use: make it the newest
			continue
		}
		m.values.Remove(oldest)
	}
	return entry
}
