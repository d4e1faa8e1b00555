package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// countTimeout bounds one count, which makes up to five calls of Keptn's API of at most 30 s each.
	// An executor does not wait that long (files.CallTimeout), because its own time is limited.
	countTimeout = 150 * time.Second
	// countLifetime is how long a count is kept that came too late for the executor. The executor asks
	// again when the Broker redelivers the event.
	countLifetime = time.Minute
	// maxCounts bounds how many are kept.
	maxCounts = 1000
)

// counts finishes a count even after its caller gave up, and keeps the result for the next caller.
// So a slow Keptn only delays a task (F64). The zero value is ready.
type counts struct {
	flights singleflight.Group
	mutex   sync.Mutex
	late    map[string]lateCount
}

type lateCount struct {
	count keptn.Count
	at    time.Time
}

// get counts a task, or returns a count that came too late for the caller before.
func (c *counts) get(ctx context.Context, task keptn.Task, counter keptn.Counter) (keptn.Count, error) {
	if count, ok := c.pop(task.TriggeredID); ok {
		return count, nil
	}
	counted := c.flights.DoChan(task.TriggeredID, func() (any, error) {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), countTimeout)
		defer cancel()
		count, err := counter.Count(detached, task)
		if err == nil && ctx.Err() != nil {
			c.keep(task.TriggeredID, count)
		}
		return count, err
	})
	select {
	case <-ctx.Done():
		return keptn.Count{}, fmt.Errorf("count task %s: %w", task.TriggeredID, context.Cause(ctx))
	case result := <-counted:
		count, _ := result.Val.(keptn.Count)
		return count, result.Err
	}
}

// keep stores a count for get, for a short time.
func (c *counts) keep(triggeredID string, count keptn.Count) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for id, late := range c.late {
		if time.Since(late.at) > countLifetime {
			delete(c.late, id)
		}
	}
	if c.late == nil {
		c.late = map[string]lateCount{}
	}
	if len(c.late) < maxCounts {
		c.late[triggeredID] = lateCount{count, time.Now()}
	}
}

// pop removes and returns a stored count, unless it is too old.
func (c *counts) pop(triggeredID string) (keptn.Count, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	late, ok := c.late[triggeredID]
	delete(c.late, triggeredID)
	return late.count, ok && time.Since(late.at) <= countLifetime
}
