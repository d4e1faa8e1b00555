package simulation

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// chance decides by the seed, the subject and the number of earlier decisions about it, so that the order of
// goroutines does not matter.
type chance struct {
	seed  uint64
	mutex sync.Mutex
	times map[string]uint64
}

func newChance(seed uint64) *chance { return &chance{seed: seed, times: map[string]uint64{}} }

// draw returns the source of random numbers for one decision.
func (c *chance) draw(format string, arguments ...any) *rand.Rand {
	what := fmt.Sprintf(format, arguments...)
	c.mutex.Lock()
	c.times[what]++
	times := c.times[what]
	c.mutex.Unlock()
	return rand.New(rand.NewPCG(c.seed, hashed(what+string(binary.BigEndian.AppendUint64(nil, times)))))
}

func hashed(text string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(text))
	return hash.Sum64()
}

// between returns a duration, to the nanosecond: so two things hardly ever happen
// at the same time.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// id makes an id for events and objects.
func (c *chance) id(of string) string {
	random := c.draw("id of %s", of)
	var created uuid.UUID
	binary.BigEndian.PutUint64(created[:8], random.Uint64())
	binary.BigEndian.PutUint64(created[8:], random.Uint64())
	return created.String()
}
