package memory

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// size is for how many keys a memory holds values.
const size = 10000

// Memory holds a value for each of a bounded number of keys; the one that was
// least recently asked for falls out, unless somebody holds it. It is safe for use by
// many at a time, and its zero value is ready.
type Memory[Value any] struct {
	mutex  sync.Mutex
	values *simplelru.LRU[string, *remembered[Value]]
}

// remembered is a value, and the turn of whoever works with it. The turn is a
// channel, so that waiting for it ends with the context of who waits.
type remembered[Value any] struct {
	turn  chan struct{}
	value Value
	// users are how many hold the value or wait for it.
	users int
}

// Hold returns a key's value, a new one if there is none, for the caller alone
// until it calls release. It waits while another holds it; its error is that the
// context ended meanwhile.
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
		return nil, nil, fmt.Errorf("waiting for another delivery for task %s: %w", key, context.Cause(ctx))
	}
}

func (m *Memory[Value]) of(key string) *remembered[Value] {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.values == nil {
		// It is bounded here: what is held must not fall out. It fails only for a size that
		// is not positive.
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
			m.values.Get(oldest) // it is in use, and so becomes the newest
			continue
		}
		m.values.Remove(oldest)
	}
	return entry
}
