package bridge

import "github.com/job-executor/job-executor/test/fixture"

var noon, errDown = fixture.Noon, fixture.ErrDown
