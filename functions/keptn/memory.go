package keptn

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Memory holds a value for each of a bounded number of keys; the one that was
// least recently asked for falls out. It is safe for use by many at a time, the
// values are not.
type Memory[Value any] struct {
	mutex  sync.Mutex
	values *lru.Cache[string, *Value]
}

// NewMemory returns a memory for a number of keys, which has to be positive.
func NewMemory[Value any](size int) *Memory[Value] {
	values, err := lru.New[string, *Value](size)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Memory[Value]{values: values}
}

// Of returns a key's value; a new one if there is none.
func (memory *Memory[Value]) Of(key string) *Value {
	memory.mutex.Lock()
	defer memory.mutex.Unlock()
	value, ok := memory.values.Get(key)
	if !ok {
		value = new(Value)
		memory.values.Add(key, value)
	}
	return value
}
