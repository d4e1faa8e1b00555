package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/conformance"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// The figures that others are compared to.
const (
	helloWarm   = "hello, through Broker and Trigger, warm"
	helloCold   = "hello, from zero"
	bareLoop    = "Jobs created by a bare loop, 16 at a time"
	bareTiny    = "bare Jobs, until all have completed"
	concurrency = 16
)

// latencies runs tasks one after the other, with hello in between, from zero or warm.
func (bench *bench) latencies(ctx context.Context, count int, cold bool) error {
	state, limit := "warm", helloWarm
	if cold {
		state, limit = "from zero", helloCold
	}
	if !cold { // what is not measured warms it
		if _, err := bench.sequences(ctx, 1); err != nil {
			return err
		}
		if _, err := bench.hello(ctx); err != nil {
			return err
		}
	}
	requests, err := bench.installed.Requests(ctx)
	if err != nil {
		return err
	}
	var contexts []string
	var hellos []float64
	for range count {
		if cold {
			if err := bench.awaitZero(ctx); err != nil {
				return err
			}
		}
		took, err := bench.hello(ctx)
		if err != nil {
			return err
		}
		hellos = append(hellos, took)
		one, err := bench.sequences(ctx, 1)
		if err != nil {
			return err
		}
		contexts = append(contexts, one...)
	}
	bench.report.add(limit, "ms", "", hellos...)
	bench.report.add("triggered to started, "+state, "ms", limit, bench.moments.milliseconds(contexts, triggered, started)...)
	bench.report.add("completed to finished, "+state, "ms", limit, bench.moments.milliseconds(contexts, completed, finished)...)
	if cold {
		return nil
	}
	after, err := bench.installed.Requests(ctx)
	if err != nil {
		return err
	}
	total := 0.0
	for _, name := range []string{"bridge", "executor", "jobsource", "watcher"} {
		each := float64(after[name]-requests[name]) / float64(count)
		bench.report.add("API requests of the "+name+" per task", "1", "", each)
		total += each
	}
	bench.report.add("API requests per task, in all", "1", "", total)
	return nil
}

// hello sends an event to a function that does nothing, and returns how many milliseconds it took.
func (bench *bench) hello(ctx context.Context) (float64, error) {
	sent := event.New()
	sent.SetID(uuid.NewString())
	sent.SetSource("bench")
	sent.SetType("bench.hello")
	if err := sent.SetData(event.ApplicationJSON, conformance.Script{"/": {{Status: http.StatusAccepted}}}); err != nil {
		return 0, fmt.Errorf("encoding an event for hello: %w", err)
	}
	began := time.Now()
	if err := (&function.Sender{URL: bench.broker, HTTP: http.DefaultClient}).Send(ctx, sent); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return float64(took.Microseconds()) / 1000, nil
}

func (bench *bench) awaitZero(ctx context.Context) error {
	if err := bench.installed.WaitForZero(ctx, zeroLimit, "executor-"+task, "watcher"); err != nil {
		return err
	}
	return console.Eventually(ctx, zeroLimit, func(ctx context.Context) error {
		pods, err := bench.installed.Kubernetes.CoreV1().Pods("bench").List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("hello has %d pods", len(pods.Items))
		}
		return err
	})
}

// addServices makes as many services as sequences are to run at once, since Keptn runs one sequence of a
// service at a time.
func (bench *bench) addServices(ctx context.Context, count int) error {
	for ; bench.services < count; bench.services++ {
		name := fmt.Sprintf("service-%d", bench.services)
		if err := bench.installed.AddService(ctx, bench.project, name, []string{stage}, files()); err != nil {
			return err
		}
	}
	return nil
}

// trigger triggers as many sequences at once, each of a service of its own.
func (bench *bench) trigger(ctx context.Context, count int) ([]string, error) {
	if err := bench.addServices(ctx, count); err != nil {
		return nil, err
	}
	contexts := make([]string, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for index := range count {
		group.Go(func() (err error) {
			contexts[index], err = bench.installed.Trigger(ctx, bench.project, stage, sequence, fmt.Sprintf("service-%d", index), nil)
			return err
		})
	}
	return contexts, group.Wait()
}

// sequences runs as many sequences at once until they have ended.
func (bench *bench) sequences(ctx context.Context, count int) ([]string, error) {
	contexts, err := bench.trigger(ctx, count)
	if err != nil {
		return nil, err
	}
	if err := bench.moments.await(ctx, stepLimit, contexts, finished); err != nil {
		return nil, err
	}
	return contexts, bench.moments.await(ctx, stepLimit, contexts, completed)
}

// bareJobs creates as many copies of one of our Jobs, which belong to nobody, and deletes them once they
// are as they should be. It returns how long that took.
func (bench *bench) bareJobs(ctx context.Context, count, atATime int, suspended bool, isDone func(job *batchv1.Job) bool) (time.Duration, error) {
	jobs := bench.installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace)
	ours, err := jobs.List(ctx, metav1.ListOptions{LabelSelector: run.Selector, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("looking for a Job to copy: %w", err)
	}
	if len(ours.Items) == 0 {
		return 0, errors.New("there is no Job to copy")
	}
	label := map[string]string{"bench": uuid.NewString()}
	spec := ours.Items[0].Spec
	spec.Suspend, spec.Selector, spec.TTLSecondsAfterFinished = &suspended, nil, nil
	spec.Template.Labels = label
	spec.Template.Spec.InitContainers = nil
	began := time.Now()
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(atATime)
	for index := range count {
		group.Go(func() error {
			_, err := jobs.Create(creating, &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bare-%s-%d", label["bench"][:8], index), Labels: label, Annotations: ours.Items[0].Annotations},
				Spec:       spec,
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("creating Jobs in a bare loop: %w", err)
	}
	selected := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(label).String()}
	if isDone != nil {
		if err := console.Eventually(ctx, stepLimit, func(ctx context.Context) error {
			there, err := jobs.List(ctx, selected)
			for index := range there.Items {
				if err == nil && !isDone(&there.Items[index]) {
					err = fmt.Errorf("Job %s is not done", there.Items[index].Name)
				}
			}
			return err
		}); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	background := metav1.DeletePropagationBackground
	if err := jobs.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, selected); err != nil {
		return 0, fmt.Errorf("deleting Jobs: %w", err)
	}
	return took, console.Eventually(ctx, stepLimit, func(ctx context.Context) error {
		there, err := jobs.List(ctx, selected)
		if err == nil && len(there.Items) > 0 {
			err = fmt.Errorf("%d Jobs are left", len(there.Items))
		}
		return err
	})
}

// burst measures how fast events become Jobs, which are suspended, since the node would be busy with
// their pods.
func (bench *bench) burst(ctx context.Context, count int) error {
	rate := func(took time.Duration) float64 { return float64(count) / took.Seconds() }
	for _, loop := range []struct {
		name    string
		atATime int
	}{{"Jobs created by a bare loop, one at a time", 1}, {bareLoop, concurrency}} {
		took, err := bench.bareJobs(ctx, count, loop.atATime, true, nil)
		if err != nil {
			return err
		}
		bench.report.add(loop.name, perSecond, "", rate(took))
	}
	if err := bench.installed.SetMaxActiveRuns(ctx, 1); err != nil {
		return err
	}
	if err := bench.awaitZero(ctx); err != nil { // so that executors know
		return err
	}
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
	took := bench.moments.last(contexts, created).Sub(bench.moments.first(contexts, triggered))
	bench.report.add("events that become Jobs, through Keptn, Broker and executors", perSecond, bareLoop, rate(took))
	after, err := usage()
	if err != nil {
		return err
	}
	programs := after.since(used)
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		bench.report.add("CPU per event in the burst: "+name, "ms", "", programs[name]*1000/float64(count))
	}
	if err := bench.moments.await(ctx, stepLimit, contexts, started); err != nil {
		return err
	}
	bench.report.add("events of the burst that are started", perSecond, "", rate(bench.moments.last(contexts, started).Sub(bench.moments.first(contexts, triggered))))
	// What waits is of no further use.
	background := metav1.DeletePropagationBackground
	err = bench.installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace).DeleteCollection(
		ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: run.Selector})
	if err != nil {
		return fmt.Errorf("deleting Jobs: %w", err)
	}
	if err := errors.Join(bench.moments.await(ctx, stepLimit, contexts, finished), bench.installed.SetMaxActiveRuns(ctx, 0)); err != nil {
		return err
	}
	return bench.awaitZero(ctx)
}

// tiny measures how long many Jobs take that run.
func (bench *bench) tiny(ctx context.Context, count int) error {
	if _, err := bench.sequences(ctx, 1); err != nil { // a Job to copy, and functions that are warm
		return err
	}
	took, err := bench.bareJobs(ctx, count, concurrency, false, func(job *batchv1.Job) bool { return run.PhaseOf(job) == run.Succeeded })
	if err != nil {
		return err
	}
	bench.report.add(bareTiny, "s", "", took.Seconds())
	if _, err := bench.sequences(ctx, 1); err != nil {
		return err
	}
	contexts, err := bench.sequences(ctx, count)
	if err != nil {
		return err
	}
	first := bench.moments.first(contexts, triggered)
	bench.report.add("tasks, until the last is started", "s", bareTiny, bench.moments.last(contexts, started).Sub(first).Seconds())
	bench.report.add("tasks, until all have finished", "s", bareTiny, bench.moments.last(contexts, finished).Sub(first).Seconds())
	return nil
}

// idle measures what the functions need that always run while nothing happens.
func (bench *bench) idle(ctx context.Context) error {
	if err := bench.awaitZero(ctx); err != nil {
		return err
	}
	before, err := bench.installed.Requests(ctx)
	if err != nil {
		return err
	}
	used, err := cgroups(ctx, bench.installed)
	if err != nil {
		return err
	}
	const pause = time.Minute
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
	}
	after, err := bench.installed.Requests(ctx)
	if err != nil {
		return err
	}
	later, err := cgroups(ctx, bench.installed)
	if err != nil {
		return err
	}
	total := 0
	for name := range after {
		total += after[name] - before[name]
	}
	bench.report.add("API requests of all while idle", "1/min", "", float64(total))
	for _, name := range slices.Sorted(maps.Keys(later)) {
		bench.report.add("memory of the "+name+" while idle", "MiB", "", later[name].memory/(1<<20))
		bench.report.add("CPU of the "+name+" while idle", "m", "", (later[name].seconds-used[name].seconds)/pause.Seconds()*1000)
	}
	return nil
}
