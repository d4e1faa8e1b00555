package runs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/functions/bridge/report"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Runs tracks the runs whose results Keptn waits for. Keptn sends no event when a sequence is aborted;
// it only stops listing the task (recordings 40 to 42). So Runs compares the tracked runs with the list,
// and asks for the sequence's state before it cancels a run. Safe for concurrent use.
type Runs struct {
	Lister  keptn.Lister
	Counter keptn.Counter
	// Keptn gets the started events that it lacks.
	Keptn report.Deliverer
	// Broker gets the cancellations.
	Broker protocol.Sender
	// Source is the source of the cancellations.
	Source string
	// Interval is the time between two checks.
	Interval time.Duration
	Tracer   trace.Tracer
	RunSpans report.RunSpans
	Now      func() time.Time
	Log      *slog.Logger

	mutex  sync.Mutex
	tasks  map[string]tracked
	checks atomic.Uint64
}

type tracked struct {
	keptn.Task
	// announced is when jobsource last announced the run; zero if it never did.
	announced time.Time
}

// announcementLifetime is how long an announcement proves that the run exists. Jobsource repeats it
// every minute.
const announcementLifetime = 150 * time.Second

// maxRuns bounds how many runs are tracked. Jobsource announces the others again.
const maxRuns = 10000

// Add tracks the run of a started task.
func (r *Runs) Add(task keptn.Task) { r.add(task, time.Time{}) }

func (r *Runs) add(task keptn.Task, announced time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	known, ok := r.tasks[task.TriggeredID]
	if !ok && len(r.tasks) >= maxRuns {
		return
	}
	if announced.IsZero() {
		announced = known.announced
	}
	if r.tasks == nil {
		r.tasks = map[string]tracked{}
	}
	r.tasks[task.TriggeredID] = tracked{task, announced}
}

// Active returns the number of tracked runs by kind.
func (r *Runs) Active() map[keptn.Kind]int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	active := map[keptn.Kind]int{}
	for _, known := range r.tasks {
		active[known.Kind()]++
	}
	return active
}

// IsThere reports whether Jobs of a task's run exist, as far as jobsource has announced them.
func (r *Runs) IsThere(task keptn.Task) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	known := r.tasks[task.TriggeredID]
	return !known.announced.IsZero() && r.Now().Sub(known.announced) < announcementLifetime
}

// Remove stops tracking a task's run.
func (r *Runs) Remove(task keptn.Task) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.tasks, task.TriggeredID)
}

// Run checks the tracked runs until the context ends. The error is always nil.
func (r *Runs) Run(ctx context.Context) error {
	pause := r.Interval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		began := time.Now()
		err := r.checkAll(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, api.ErrTokenRefused) {
			r.Log.WarnContext(ctx, "checking running tasks failed; retrying", "error", err)
		}
		if err != nil {
			pause = api.Backoff(r.Interval, pause)
		} else {
			pause = api.Pace(r.Interval, time.Since(began))
		}
	}
}

// checkAll lists the open events of every task name with tracked runs. Names are listed concurrently,
// so one that cannot be listed does not delay the others.
func (r *Runs) checkAll(ctx context.Context) error {
	r.mutex.Lock()
	byName := map[string][]keptn.Task{}
	for _, triggeredID := range slices.Sorted(maps.Keys(r.tasks)) {
		task := r.tasks[triggeredID].Task
		byName[task.Name] = append(byName[task.Name], task)
	}
	r.mutex.Unlock()
	var group errgroup.Group
	for name, tasks := range byName {
		group.Go(func() error { return r.checkListed(ctx, name, tasks) })
	}
	return group.Wait()
}

// maxFailures is how many tasks Keptn may fail to answer for in one check.
const maxFailures = 3

// checkListed checks the tasks that Keptn no longer lists, one by one. Each check starts with another
// task and stops after maxFailures, so that a broken task delays no other, and a broken Keptn is not
// asked about thousands of tasks.
func (r *Runs) checkListed(ctx context.Context, name string, tasks []keptn.Task) error {
	events, err := r.Lister.OpenTriggered(ctx, keptn.TypeOf(name, keptn.Triggered))
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, listed := range events {
		open[listed.ID()] = true
	}
	start := int(r.checks.Add(1)) % len(tasks) //nolint:gosec // a small number
	var failures []error
	for index := range tasks {
		task := tasks[(start+index)%len(tasks)]
		if open[task.TriggeredID] {
			continue
		}
		if err := r.check(ctx, task); err != nil {
			if failures = append(failures, err); len(failures) == maxFailures {
				break
			}
		}
	}
	return errors.Join(failures...)
}

// check cancels the run of an unlisted task if its sequence was aborted.
func (r *Runs) check(ctx context.Context, task keptn.Task) error {
	count, err := r.Counter.Count(ctx, task)
	if err != nil {
		return err
	}
	if count.Standing == keptn.Completed {
		r.Remove(task)
		return nil
	}
	r.mutex.Lock()
	_, known := r.tasks[task.TriggeredID]
	r.mutex.Unlock()
	if count.Standing != keptn.Aborted || !known {
		return nil // this bridge has reported it meanwhile
	}
	cancelled := r.Cancel(ctx, task)
	sending, span := telemetry.StartSend(ctx, r.Tracer, task, cancelled, telemetry.ToBroker)
	err = r.Broker.Send(sending, cancelled)
	span.End()
	if err != nil {
		return fmt.Errorf("publish the cancellation of task %s: %w", task.TriggeredID, err)
	}
	r.RunSpans.Write(ctx, task, keptn.RunCancellation, "")
	r.Remove(task)
	return nil
}
