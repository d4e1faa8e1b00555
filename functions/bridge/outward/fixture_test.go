package outward

import "github.com/job-executor/job-executor/test/fixture"

var noon, discard, errDown, task, current, running, aborted, completed, triggered = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Task, fixture.Current, fixture.Running, fixture.Aborted, fixture.Completed, fixture.Triggered
