package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/system"
)

// bursts measures how fast events become Jobs, which are suspended, since the node would be busy with
// their pods: events that come at once, and such as came while the bridge was away.
func (bench *bench) bursts(ctx context.Context, atOnce, caughtUp int) error {
	if _, err := bench.sequences(ctx, 1); err != nil { // a Job to copy
		return err
	}
	for _, loop := range []struct {
		name    string
		atATime int
	}{{"Jobs created by a bare loop, one at a time", 1}, {bareLoop, concurrency}} {
		took, err := bench.bareJobs(ctx, atOnce, loop.atATime, true, nil)
		if err != nil {
			return err
		}
		bench.report.add(loop.name, perSecond, "", float64(atOnce)/took.Seconds())
	}
	if err := bench.installed.SetMaxActiveRuns(ctx, 1); err != nil {
		return err
	}
	if err := bench.installed.Kill(ctx, "serving.knative.dev/service=executor-"+task); err != nil { // the next ones know
		return err
	}
	if _, err := bench.sequences(ctx, 1); err != nil { // it warms them
		return err
	}
	return errors.Join(bench.atOnce(ctx, atOnce), bench.catchUp(ctx, caughtUp), bench.installed.SetMaxActiveRuns(ctx, 0))
}

// atOnce triggers many sequences at once, and ends them once all have been started.
func (bench *bench) atOnce(ctx context.Context, count int) error {
	if err := bench.addServices(ctx, count); err != nil {
		return err
	}
	used, err := usage()
	if err != nil {
		return err
	}
	contexts, err := bench.trigger(ctx, count)
	if err == nil {
		err = bench.moments.await(ctx, stepLimit, contexts, created)
	}
	if err != nil {
		return err
	}
	after, err := usage()
	if err != nil {
		return err
	}
	if err := bench.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	began, of := bench.moments.first(contexts, triggered), " in a burst"
	bench.rates(contexts, began, of, triggered, created, started)
	bench.report.add("triggered to a Job"+of, "ms", "", bench.moments.milliseconds(contexts, triggered, created)...)
	programs := after.since(used)
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		bench.report.add("CPU of "+name+" per event"+of, "ms", "", programs[name]*1000/float64(count))
	}
	return bench.endAll(ctx, contexts)
}

// catchUp triggers many sequences while there is no bridge, and measures how fast it catches up.
func (bench *bench) catchUp(ctx context.Context, count int) error {
	// A bridge that has just started does not know what the one before it has sent; this is for how long it waits at most.
	if err := bench.installed.UseTransport(ctx, "nats", system.CountingTime); err != nil {
		return err
	}
	if err := bench.installed.Scale(ctx, 0); err != nil {
		return err
	}
	contexts, err := bench.trigger(ctx, count)
	back := time.Now()
	if err := errors.Join(err, bench.installed.Scale(ctx, 1)); err != nil {
		return err
	}
	if err := bench.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	bench.rates(contexts, back, " after the bridge was away", created, started)
	after, err := cgroups(ctx, bench.installed)
	if err != nil {
		return err
	}
	bench.used("after the bridge was away", nil, after, time.Since(back))
	return bench.endAll(ctx, contexts)
}

// rates reports how fast things came about, since a time.
func (bench *bench) rates(contexts []string, since time.Time, when string, whats ...string) {
	names := map[string]string{triggered: "events that Keptn triggers", created: "events that become Jobs", started: "events that are started"}
	for _, what := range whats {
		limit := bareLoop
		if what == triggered {
			limit = ""
		}
		took := bench.moments.last(contexts, what).Sub(since)
		bench.report.add(names[what]+when, perSecond, limit, float64(len(contexts))/took.Seconds())
	}
}

// endAll deletes all Jobs, since what waits is of no further use, and waits until all sequences have ended.
func (bench *bench) endAll(ctx context.Context, contexts []string) error {
	if err := bench.deleteJobs(ctx, system.JobsNamespace, run.Selector); err != nil {
		return err
	}
	return bench.moments.await(ctx, stepLimit, contexts, finished)
}

// tiny measures how long many Jobs take that run, of bare ones a few: the node takes as long for each.
func (bench *bench) tiny(ctx context.Context, count int) error {
	if _, err := bench.sequences(ctx, 1); err != nil { // a Job to copy, and functions that are warm
		return err
	}
	bare := max(count/4, 2)
	took, err := bench.bareJobs(ctx, bare, concurrency, false, func(job *batchv1.Job) bool { return run.PhaseOf(job) == run.Succeeded })
	if err != nil {
		return err
	}
	bench.report.add(bareTiny, perSecond, "", float64(bare)/took.Seconds())
	if _, err := bench.sequences(ctx, 1); err != nil {
		return err
	}
	before, err := cgroups(ctx, bench.installed)
	if err != nil {
		return err
	}
	began := time.Now()
	contexts, err := bench.sequences(ctx, count)
	if err != nil {
		return err
	}
	after, err := cgroups(ctx, bench.installed)
	if err != nil {
		return err
	}
	bench.used("while tasks run at once", before, after, time.Since(began))
	first := bench.moments.first(contexts, triggered)
	bench.report.add("tasks whose Jobs run, until the last is started", "s", "", bench.moments.last(contexts, started).Sub(first).Seconds())
	bench.report.add("tasks whose Jobs run, that finish", perSecond, bareTiny, float64(count)/bench.moments.last(contexts, finished).Sub(first).Seconds())
	return nil
}
