package outward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/tracing"
)

// Runs are the runs of tasks that Keptn waits for, as far as the bridge has heard of
// them. When a task's sequence is aborted, its run is cancelled through the Broker.
// Keptn has no event that says so for a task; it only stops listing it (recordings 40
// to 42), which says nothing by itself: the sequence's state has to confirm it.
type Runs struct {
	Lister  keptn.Lister
	Counter keptn.Counter
	Keptn   Deliverer
	Broker  Sender
	Source  string
	// Interval is the time between two looks at Keptn.
	Interval time.Duration
	Tracer   trace.Tracer
	RunSpans RunSpans
	Now      func() time.Time
	Log      *slog.Logger

	mutex sync.Mutex
	tasks map[string]knownRun
	looks atomic.Uint64
}

type knownRun struct {
	keptn.Task
	// named is when its Jobs were named last, zero if they were not.
	named time.Time
}

// namedFor is for how long a run is taken to be there that was named; jobsource names
// each every minute.
const namedFor = 150 * time.Second

// maxRuns bounds how many runs are looked after; jobsource names those that don't find
// a place again, until they are reported.
const maxRuns = 10000

// Handle answers the event that a run is active, which jobsource sends again and again
// until the run is reported: with the run's cancellation if its sequence was aborted, or if
// the task is completed and the run has not begun, with that it is reported if it has
// ended and Keptn wants no result, and with nothing else. A started event that Keptn lacks
// is sent again. So whatever happened is seen that happened while no bridge was there.
// The run of an event that was only observed is reported as soon as it has ended.
func (runs *Runs) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	activity, err := run.NoticeOf(received, run.ActiveType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	var task keptn.Task
	if err := json.Unmarshal(activity.Task, &task); err != nil {
		return nil, function.Permanent(fmt.Errorf("reading the task of event %s: %w", received.ID(), err))
	}
	if task.Observed { // Keptn waits for nothing
		if activity.Ended {
			runs.RunSpans.Write(ctx, task, keptn.RunSuccess, "")
			return new(run.Reported(runs.Source, activity.RunID, task.Context, runs.Now())), nil
		}
		return nil, nil
	}
	count, err := runs.Counter.Count(ctx, task)
	if err != nil {
		return nil, err
	}
	if activity.Ended && activity.Silent {
		runs.RunSpans.Write(ctx, task, keptn.RunSuccess, "") // else Keptn's log was told
	}
	switch {
	case count.Over() && activity.Ended:
		runs.Remove(task)
		result := keptn.RunResult("") // others have completed the task, or a bridge before this one
		if count.Standing == keptn.Aborted {
			result = keptn.RunCancellation
		}
		runs.RunSpans.Write(ctx, task, result, "")
		return new(run.Reported(runs.Source, activity.RunID, task.Context, runs.Now())), nil
	case count.Standing == keptn.Aborted, count.Standing == keptn.Completed && !activity.Begun:
		// Of a run that has not begun an executor made some after another one had said that
		// it can't be run; the rest, and with it the first Job, will never be made.
		runs.Remove(task)
		return tracing.Reply(ctx, runs.Tracer, task, runs.cancel(ctx, task)), nil
	case count.Standing == keptn.Completed:
		runs.Remove(task)
		return nil, nil
	}
	if !activity.Begun {
		// It is being created, or its first Job is gone: it is none that goes on by itself.
		runs.Add(task)
		return nil, nil
	}
	runs.add(task, runs.Now())
	if count.Standing == keptn.Current && count.Started == 0 && !activity.Silent {
		_, err = runs.Keptn.Deliver(ctx, keptn.Answer{Task: task, Phase: keptn.Started, Event: task.Started(runs.Now())})
	}
	return nil, err
}

// Add adds the run of a task that was started, and not finished.
func (runs *Runs) Add(task keptn.Task) { runs.add(task, time.Time{}) }

func (runs *Runs) add(task keptn.Task, named time.Time) {
	runs.mutex.Lock()
	defer runs.mutex.Unlock()
	known, ok := runs.tasks[task.TriggeredID]
	if !ok && len(runs.tasks) >= maxRuns {
		return
	}
	if named.IsZero() {
		named = known.named
	}
	if runs.tasks == nil {
		runs.tasks = map[string]knownRun{}
	}
	runs.tasks[task.TriggeredID] = knownRun{task, named}
}

// Active returns how many runs there are of each task, by its name.
func (runs *Runs) Active() map[string]int {
	runs.mutex.Lock()
	defer runs.mutex.Unlock()
	active := map[string]int{}
	for _, known := range runs.tasks {
		active[known.Name]++
	}
	return active
}

// IsThere says whether Jobs of a task's run are there, as far as is known.
func (runs *Runs) IsThere(task keptn.Task) bool {
	runs.mutex.Lock()
	defer runs.mutex.Unlock()
	known := runs.tasks[task.TriggeredID]
	return !known.named.IsZero() && runs.Now().Sub(known.named) < namedFor
}

// Remove removes the run of a task that was finished, or that Keptn does not wait for.
func (runs *Runs) Remove(task keptn.Task) {
	runs.mutex.Lock()
	defer runs.mutex.Unlock()
	delete(runs.tasks, task.TriggeredID)
}

// Run looks after the runs until the context ends.
func (runs *Runs) Run(ctx context.Context) error {
	pause := runs.Interval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		began := time.Now()
		err := runs.look(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, api.ErrTokenRefused) {
			runs.Log.WarnContext(ctx, "looking after running tasks failed, will be tried again", "error", err)
		}
		if err != nil {
			pause = api.Backoff(runs.Interval, pause)
		} else {
			pause = api.Pace(runs.Interval, time.Since(began))
		}
	}
}

// look asks Keptn for what is open of each type of which tasks run, all at a time, so
// that one which can't be listed does not hold the others back, and only about those
// tasks that are missing one by one.
func (runs *Runs) look(ctx context.Context) error {
	runs.mutex.Lock()
	byName := map[string][]keptn.Task{}
	for _, triggeredID := range slices.Sorted(maps.Keys(runs.tasks)) {
		task := runs.tasks[triggeredID].Task
		byName[task.Name] = append(byName[task.Name], task)
	}
	runs.mutex.Unlock()
	var group errgroup.Group
	for name, tasks := range byName {
		group.Go(func() error { return runs.lookAt(ctx, name, tasks) })
	}
	return group.Wait()
}

func (runs *Runs) lookAt(ctx context.Context, name string, tasks []keptn.Task) error {
	events, err := runs.Lister.OpenTriggered(ctx, keptn.TypeOf(name, keptn.Triggered))
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, listed := range events {
		open[listed.ID()] = true
	}
	// Each look begins with another task, and ends after a few failures: a task that Keptn cannot
	// tell about delays no other, and a Keptn that is down is not asked about thousands.
	start := int(runs.looks.Add(1)) % len(tasks) //nolint:gosec // a small number
	var failures []error
	for index := range tasks {
		task := tasks[(start+index)%len(tasks)]
		if open[task.TriggeredID] {
			continue
		}
		if err := runs.check(ctx, task); err != nil {
			if failures = append(failures, err); len(failures) == maxFailures {
				break
			}
		}
	}
	return errors.Join(failures...)
}

// maxFailures is how many tasks Keptn fails to tell about in one look.
const maxFailures = 3

// check cancels the run of a task that is not listed any more, if its sequence was
// aborted.
func (runs *Runs) check(ctx context.Context, task keptn.Task) error {
	count, err := runs.Counter.Count(ctx, task)
	if err != nil {
		return err
	}
	if count.Standing == keptn.Completed {
		runs.Remove(task)
		return nil
	}
	runs.mutex.Lock()
	_, known := runs.tasks[task.TriggeredID]
	runs.mutex.Unlock()
	if count.Standing != keptn.Aborted || !known {
		return nil // it was finished meanwhile, by us
	}
	sending, span := tracing.StartSend(ctx, runs.Tracer, task, run.CancelledType)
	err = runs.Broker.Send(sending, *runs.cancel(ctx, task))
	span.End()
	if err != nil {
		return fmt.Errorf("cancelling the run of task %s: %w", task.TriggeredID, err)
	}
	runs.RunSpans.Write(ctx, task, keptn.RunCancellation, "")
	runs.Remove(task)
	return nil
}

// cancel returns the cancellation of a task's run.
func (runs *Runs) cancel(ctx context.Context, task keptn.Task) *event.Event {
	runs.Log.InfoContext(ctx, "nobody waits for a run any more; it is cancelled", "triggeredid", task.TriggeredID, "keptncontext", task.Context)
	return new(run.Cancelled(runs.Source, run.ID(task.TriggeredID), task.Context, runs.Now()))
}
