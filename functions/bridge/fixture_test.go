package bridge

import "github.com/job-executor/job-executor/test/fixture"

var noon, errDown, task = fixture.Noon, fixture.ErrDown, fixture.Task
