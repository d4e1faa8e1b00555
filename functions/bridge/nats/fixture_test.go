package nats

import "github.com/job-executor/job-executor/test/fixture"

var noon, discard, errDown, task, triggered = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Task, fixture.Triggered
