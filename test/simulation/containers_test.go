package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/job-executor/job-executor/test/embedded"
)

// How a Job's container ended.
const (
	succeeded = "succeeded"
	failed    = "failed"
	killed    = "killed"
)

// script is a Runtime whose containers do nothing but end, after a while and in
// some way.
type script struct{ world *world }

// Run waits.
func (script script) Run(ctx context.Context, container embedded.Container) (int, error) {
	random := script.world.chance.draw("container of %s", container.Job)
	code, end, pause := 0, succeeded, between(random, 100*time.Millisecond, 20*time.Second)
	script.world.mutex.Lock()
	fate := script.world.fates[container.Job]
	script.world.mutex.Unlock()
	switch draw := random.Float64(); {
	case fate == embedded.NodeLost:
		pause = time.Hour // nobody hears of it any more
	case script.world.planned != nil:
		pause = 5 * time.Second
	case draw < 0.05:
		code, end = 1, failed
	case draw < 0.07:
		pause = time.Hour // until its deadline
	}
	select {
	case <-ctx.Done():
		code, end = 137, killed
	case <-time.After(pause):
	}
	_, _ = fmt.Fprintf(container.Output, "%s %s\n", container.Job, end)
	script.world.note("Job %s has %s", container.Job, end)
	script.world.mutex.Lock()
	script.world.ends[container.Job] = end
	script.world.mutex.Unlock()
	return code, nil
}
