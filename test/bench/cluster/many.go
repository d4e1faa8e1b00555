package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/system"
)

// bareLoops is how often the bare loop is measured.
const bareLoops = 3

// bursts measures how fast events become Jobs, which are suspended, since the node would be busy with
// their pods: events that come at once, and such as came while the bridge was away.
func (bench *bench) bursts(ctx context.Context, atOnce, caughtUp int) (err error) {
	if _, err := bench.sequences(ctx, 1); err != nil { // a Job to copy
		return err
	}
	rates := map[int][]float64{}
	for range bareLoops {
		for _, atATime := range []int{1, concurrency} {
			took, err := bench.bareJobs(ctx, atOnce, atATime, true, nil)
			if err != nil {
				return err
			}
			rates[atATime] = append(rates[atATime], float64(atOnce)/took.Seconds())
		}
	}
	bench.report.add("Jobs created by a bare loop, one at a time", perSecond, "", rates[1]...)
	bench.report.add(bareLoop, perSecond, "", rates[concurrency]...)
	defer afterwards(ctx, &err, func(ctx context.Context) error { return bench.installed.SetMaxActiveRuns(ctx, 0) })
	if err := bench.installed.SetMaxActiveRuns(ctx, 1); err != nil {
		return err
	}
	if err := bench.installed.Kill(ctx, "serving.knative.dev/service=executor-"+task); err != nil { // the next ones know
		return err
	}
	if _, err := bench.sequences(ctx, 1); err != nil { // it warms them
		return err
	}
	if err := bench.atOnce(ctx, atOnce); err != nil {
		return err
	}
	return bench.catchUp(ctx, caughtUp)
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
	began, of := bench.moments.first(contexts, triggered), fmt.Sprintf(", %d in a burst", count)
	bench.report.add("events that Keptn triggers"+of, perSecond, "", bench.rate(contexts, began, triggered))
	bench.rates(contexts, began, of)
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
	var contexts []string
	var before map[string]cgroup
	var back time.Time
	if err := bench.withoutBridge(ctx, func() (err error) {
		if contexts, err = bench.trigger(ctx, count); err != nil {
			return err
		}
		before, err = bench.cgroups(ctx)
		back = time.Now()
		return err
	}); err != nil {
		return err
	}
	if err := bench.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	bench.rates(contexts, back, fmt.Sprintf(", %d after the bridge was away", count))
	after, err := bench.cgroups(ctx)
	if err != nil {
		return err
	}
	bench.used("after the bridge was away", before, after, time.Since(back))
	return bench.endAll(ctx, contexts)
}

// withoutBridge does something while there is no bridge, and then waits until there is one.
func (bench *bench) withoutBridge(ctx context.Context, do func() error) (err error) {
	defer afterwards(ctx, &err, func(ctx context.Context) error { return bench.installed.Scale(ctx, 1) })
	if err := bench.installed.Scale(ctx, 0); err != nil {
		return err
	}
	return do()
}

// rate is how fast something came about, since a time.
func (bench *bench) rate(contexts []string, since time.Time, what string) float64 {
	return float64(len(contexts)) / bench.moments.last(contexts, what).Sub(since).Seconds()
}

// rates reports how fast events became Jobs, and were started.
func (bench *bench) rates(contexts []string, since time.Time, when string) {
	for _, limit := range []string{bareLoop, peer} {
		bench.report.add("events that become Jobs"+when, perSecond, limit, bench.rate(contexts, since, created))
	}
	bench.report.add("events that are started"+when, perSecond, bareLoop, bench.rate(contexts, since, started))
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
	before, err := bench.cgroups(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	contexts, err := bench.sequences(ctx, count)
	if err != nil {
		return err
	}
	after, err := bench.cgroups(ctx)
	if err != nil {
		return err
	}
	bench.used("while tasks run at once", before, after, time.Since(began))
	first := bench.moments.first(contexts, triggered)
	bench.report.add(fmt.Sprintf("%d tasks at once, whose Jobs run, until the last is started", count), "s", "", bench.moments.last(contexts, started).Sub(first).Seconds())
	bench.report.add(fmt.Sprintf("tasks that finish, %d at once", count), perSecond, bareTiny, float64(count)/bench.moments.last(contexts, finished).Sub(first).Seconds())
	return nil
}
