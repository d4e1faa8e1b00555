package keptn

import (
	"context"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Memory holds a value for each of a bounded number of keys; the one that was
// least recently asked for falls out. It is safe for use by many at a time.
type Memory[Value any] struct {
	mutex  sync.Mutex
	values *lru.Cache[string, *remembered[Value]]
}

// remembered is a value, and the turn of whoever works with it. The turn is a
// channel, so that waiting for it ends with the context of who waits.
type remembered[Value any] struct {
	turn  chan struct{}
	value Value
}

// NewMemory returns a memory for a number of keys, which has to be positive.
func NewMemory[Value any](size int) *Memory[Value] {
	values, err := lru.New[string, *remembered[Value]](size)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Memory[Value]{values: values}
}

// Hold returns a key's value, a new one if there is none, for the caller alone
// until it calls release. It waits while another holds it; its error is that the
// context ended meanwhile.
func (memory *Memory[Value]) Hold(ctx context.Context, key string) (value *Value, release func(), err error) {
	entry := memory.of(key)
	select {
	case entry.turn <- struct{}{}:
		return &entry.value, func() { <-entry.turn }, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for another delivery for task %s: %w", key, context.Cause(ctx))
	}
}

func (memory *Memory[Value]) of(key string) *remembered[Value] {
	memory.mutex.Lock()
	defer memory.mutex.Unlock()
	entry, ok := memory.values.Get(key)
	if !ok {
		entry = &remembered[Value]{turn: make(chan struct{}, 1)}
		memory.values.Add(key, entry)
	}
	return entry
}
