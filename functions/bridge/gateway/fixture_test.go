package gateway

import "github.com/job-executor/job-executor/test/fixture"

var noon, discard, errDown, current, running, aborted = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Current, fixture.Running, fixture.Aborted
