package intake

import "github.com/job-executor/job-executor/test/fixture"

var (
	noon, discard, errDown, task, triggered = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Task, fixture.Triggered
	current, running, aborted, completed    = fixture.Current, fixture.Running, fixture.Aborted, fixture.Completed
)
