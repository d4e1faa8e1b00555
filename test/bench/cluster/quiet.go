package main

import (
	"context"
	"fmt"
	"time"

	"github.com/job-executor/job-executor/test/system"
)

// pause is the measured quiet time.
const pause = 30 * time.Second

// wait waits for a time.
func wait(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// quiet measures the functions' work while Keptn is idle.
func (b *bench) quiet(ctx context.Context, when string) error {
	requests, err := b.installed.Requests(ctx)
	if err != nil {
		return err
	}
	if err := b.rest(ctx, when); err != nil {
		return err
	}
	later, err := b.installed.Requests(ctx)
	if err != nil {
		return err
	}
	ours := 0
	for _, name := range functions() {
		ours += later[name] - requests[name]
	}
	for _, counted := range []struct {
		name     string
		requests int
	}{
		{"API requests for the Lease ", later["leases"] - requests["leases"]},
		{"other API requests ", ours},
		{"requests to Keptn ", later[system.ToKeptn] - requests[system.ToKeptn]},
	} {
		b.report.add(counted.name+when, perMinute, "", float64(counted.requests)/pause.Minutes())
	}
	return nil
}

// rest measures what the functions use during a pause.
func (b *bench) rest(ctx context.Context, when string) error {
	before, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, pause); err != nil {
		return err
	}
	after, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	b.used(when, before, after, pause)
	return nil
}

const perMinute = "1/min"

// whileIdle says when a figure was measured.
const whileIdle = "while idle"

// idle is while there is no task.
func (b *bench) idle(ctx context.Context) error {
	if err := b.awaitZero(ctx); err != nil {
		return err
	}
	return b.quiet(ctx, whileIdle)
}

// waiting is while Jobs run.
func (b *bench) waiting(ctx context.Context) error {
	const waits, slack = 10, 30 * time.Second // in which the last starts
	configuration := fmt.Sprintf("apiVersion: v2\nactions:\n  - {name: Wait, event: %s.triggered, image: busybox, cmd: [sleep, '%d']}\n", task, int(pause.Seconds()+slack.Seconds()))
	files := map[string][]byte{"job/config.yaml": []byte(configuration)}
	var contexts []string
	for index := range waits {
		name := fmt.Sprintf("waiting-%d", index)
		if err := b.installed.AddService(ctx, b.project, name, []string{stage}, files); err != nil {
			return err
		}
		keptnContext, err := b.installed.Trigger(ctx, b.project, stage, sequence, name, nil)
		if err != nil {
			return err
		}
		contexts = append(contexts, keptnContext)
	}
	if err := b.moments.await(ctx, stepLimit, contexts, running); err != nil {
		return err
	}
	if err := b.quiet(ctx, fmt.Sprintf("while %d tasks wait for their containers", waits)); err != nil {
		return err
	}
	return b.moments.await(ctx, stepLimit, contexts, finished)
}
