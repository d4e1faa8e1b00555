package election

import "github.com/job-executor/job-executor/test/fixture"

var noon, discard, errDown, task = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Task
