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

// bareLoops is how many times the bare loop is measured.
const bareLoops = 3

// bursts measures how fast events become Jobs: events at once, and events during the bridge's absence. The Jobs are
// suspended, because their pods would load the node.
func (b *bench) bursts(ctx context.Context, atOnce, caughtUp int) (err error) {
	if _, err := b.sequences(ctx, 1); err != nil { // a Job to copy
		return err
	}
	rates := map[int][]float64{}
	for range bareLoops {
		for _, atATime := range []int{1, concurrency} {
			took, err := b.bareJobs(ctx, atOnce, atATime, true, nil)
			if err != nil {
				return err
			}
			rates[atATime] = append(rates[atATime], float64(atOnce)/took.Seconds())
		}
	}
	b.report.add("Jobs created by a bare loop, one at a time", perSecond, "", rates[1]...)
	b.report.add(bareLoop, perSecond, "", rates[concurrency]...)
	defer afterwards(ctx, &err, func(ctx context.Context) error { return b.installed.SetMaxActiveRuns(ctx, 0) })
	if err := b.installed.SetMaxActiveRuns(ctx, 1); err != nil {
		return err
	}
	if err := b.installed.Kill(ctx, "serving.knative.dev/service=executor-"+task); err != nil { // new executors read the setting
		return err
	}
	if _, err := b.sequences(ctx, 1); err != nil { // warms the executors
		return err
	}
	former, remove, err := b.former(ctx)
	defer afterwards(ctx, &err, remove)
	if err != nil {
		return err
	}
	if err := former.formerLatencies(ctx); err != nil {
		return err
	}
	var whole, ours, theirs burst
	for range rounds {
		if err := former.burst(ctx, formerPage, &theirs); err != nil {
			return err
		}
		if _, err := b.sequences(ctx, 1); err != nil { // the executors have scaled to zero meanwhile
			return err
		}
		if err := b.burst(ctx, formerPage, &ours); err != nil {
			return err
		}
		if err := b.burst(ctx, atOnce, &whole); err != nil {
			return err
		}
	}
	if err := former.rest(ctx, whileIdle); err != nil {
		return err
	}
	page := fmt.Sprintf(", %d in a burst", formerPage)
	b.reportBurst(formerName+": ", page, theirs)
	b.reportBurst("", page, ours)
	b.report.add("events that become Jobs"+page, perSecond, formerName+": events that become Jobs"+page, ours.created...)
	b.report.add("triggered to a Job"+page, "ms", formerName+": triggered to a Job"+page, ours.waits...)
	b.reportBurst("", fmt.Sprintf(", %d in a burst", atOnce), whole)
	return b.catchUp(ctx, caughtUp)
}

// rounds is how many bursts of each kind are measured, in turn.
const rounds = 3

// burst has the measurements of bursts.
type burst struct {
	// triggered, created and started are rates, a value for each burst.
	triggered, created, started []float64
	// waits are milliseconds from the trigger until the Job, a value for each event.
	waits []float64
	// programs are the CPU milliseconds per event, by program, a value for each burst.
	programs map[string][]float64
}

// burst triggers many sequences at once, and ends them once all have been started.
func (b *bench) burst(ctx context.Context, count int, measured *burst) error {
	if err := b.addServices(ctx, count); err != nil {
		return err
	}
	used, err := usage()
	if err != nil {
		return err
	}
	contexts, err := b.trigger(ctx, count)
	if err == nil {
		err = b.moments.await(ctx, stepLimit, contexts, created)
	}
	if err != nil {
		return err
	}
	after, err := usage()
	if err != nil {
		return err
	}
	if err := b.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	began := b.moments.first(contexts, triggered)
	measured.triggered = append(measured.triggered, b.rate(contexts, began, triggered))
	measured.created = append(measured.created, b.rate(contexts, began, created))
	measured.started = append(measured.started, b.rate(contexts, began, started))
	measured.waits = append(measured.waits, b.moments.milliseconds(contexts, triggered, created)...)
	if measured.programs == nil {
		measured.programs = map[string][]float64{}
	}
	for name, seconds := range after.since(used) {
		measured.programs[name] = append(measured.programs[name], seconds*1000/float64(count))
	}
	return b.endAll(ctx, contexts)
}

// reportBurst reports the bursts of a service.
func (b *bench) reportBurst(service, of string, measured burst) {
	b.report.add(service+"events that Keptn triggers"+of, perSecond, "", measured.triggered...)
	b.rates(service, of, measured.created, measured.started)
	b.report.add(service+"triggered to a Job"+of, "ms", "", measured.waits...)
	for _, name := range slices.Sorted(maps.Keys(measured.programs)) {
		b.report.add(service+"CPU of "+name+" per event"+of, "ms", "", measured.programs[name]...)
	}
}

// catchUp triggers many sequences without a bridge, and measures how fast a new bridge catches up.
func (b *bench) catchUp(ctx context.Context, count int) (err error) {
	// The time limits how long a new bridge waits for events of an earlier one.
	if err := b.installed.UseTransport(ctx, "nats", system.CountingTime); err != nil {
		return err
	}
	defer afterwards(ctx, &err, func(ctx context.Context) error { return b.installed.Scale(ctx, "bridge", 1) })
	if err := b.installed.Scale(ctx, "bridge", 0); err != nil {
		return err
	}
	contexts, err := b.trigger(ctx, count)
	if err != nil {
		return err
	}
	before, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	back := time.Now()
	if err := b.installed.Scale(ctx, "bridge", 1); err != nil {
		return err
	}
	ready := time.Now()
	if err := b.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	of := fmt.Sprintf(", %d after the bridge was away", count)
	b.rates("", of, []float64{b.rate(contexts, back, created)}, []float64{b.rate(contexts, back, started)})
	b.report.add("events that become Jobs once the bridge is ready"+of, perSecond, bareLoop, b.rate(contexts, ready, created))
	after, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	b.used("after the bridge was away", before, after, time.Since(back))
	return b.endAll(ctx, contexts)
}

// rate returns how many observations of a kind there were per second since a time.
func (b *bench) rate(contexts []string, since time.Time, what string) float64 {
	return float64(len(contexts)) / b.moments.last(contexts, what).Sub(since).Seconds()
}

// rates reports how fast events became Jobs of a service, and how fast they were started.
func (b *bench) rates(service, when string, created, started []float64) {
	for _, limit := range []string{bareLoop, peer} {
		b.report.add(service+"events that become Jobs"+when, perSecond, limit, created...)
	}
	b.report.add(service+"events that are started"+when, perSecond, bareLoop, started...)
}

// endAll deletes all Jobs and waits until all sequences have ended.
func (b *bench) endAll(ctx context.Context, contexts []string) error {
	if err := b.deleteJobs(ctx, b.namespace, b.selector); err != nil {
		return err
	}
	return b.moments.await(ctx, stepLimit, contexts, finished)
}

// tiny measures how long many Jobs take whose pods run. A few bare Jobs are enough for comparison: the node takes
// as long for each.
func (b *bench) tiny(ctx context.Context, count int) error {
	if _, err := b.sequences(ctx, 1); err != nil { // a Job to copy, and functions that are warm
		return err
	}
	bare := max(count/4, 2)
	took, err := b.bareJobs(ctx, bare, concurrency, false, func(job *batchv1.Job) bool { return run.PhaseOf(job) == run.Succeeded })
	if err != nil {
		return err
	}
	b.report.add(bareTiny, perSecond, "", float64(bare)/took.Seconds())
	if _, err := b.sequences(ctx, 1); err != nil {
		return err
	}
	before, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	contexts, err := b.sequences(ctx, count)
	if err != nil {
		return err
	}
	after, err := b.cgroups(ctx)
	if err != nil {
		return err
	}
	b.used("while tasks run at once", before, after, time.Since(began))
	first := b.moments.first(contexts, triggered)
	b.report.add(fmt.Sprintf("%d tasks at once, whose Jobs run, until the last is started", count), "s", "", b.moments.last(contexts, started).Sub(first).Seconds())
	b.report.add(fmt.Sprintf("tasks that finish, %d at once", count), perSecond, bareTiny, float64(count)/b.moments.last(contexts, finished).Sub(first).Seconds())
	return nil
}
