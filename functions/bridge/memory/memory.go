package memory

import (
	"context"
	"fmt"
	"sync"
)

// Memory is a Recent that is safe for concurrent use, and keeps the values that are held. Its zero value is ready.
type Memory[Value any] struct {
	mutex  sync.Mutex
	values Recent[remembered[Value]]
}

// remembered is a value and the turn of its user. The turn is a channel, so that waiting ends with a context.
type remembered[Value any] struct {
	turn  chan struct{}
	value Value
	// users is how many hold the value or wait for it.
	users int
}

// Hold returns the value of a key, initially a zero value, for exclusive use until release is called. It waits
// for other holders, and returns an error if the context ends first.
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
	entry := m.values.of(key, func(entry *remembered[Value]) bool { return entry.users > 0 })
	if entry.turn == nil {
		entry.turn = make(chan struct{}, 1)
	}
	entry.users++
	return entry
}
