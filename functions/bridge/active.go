package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Active are the tasks that run: started, and not finished. When Keptn no longer
// waits for one, since its sequence was aborted or its project deleted, its run is
// cancelled through the Broker. Keptn has no event that says so for a task; it
// only stops listing it (recordings 40 to 42).
type Active struct {
	lister   Lister
	counter  keptn.Counter
	broker   Sender
	interval time.Duration
	tracer   trace.Tracer
	now      func() time.Time
	log      *slog.Logger

	mutex sync.Mutex
	tasks map[string]activeTask
}

type activeTask struct {
	keptn.Task
	// hasRun says that its Jobs were seen, by this process.
	hasRun bool
}

// NewActive returns an empty set of tasks; Run looks after them every interval.
func NewActive(lister Lister, counter keptn.Counter, broker Sender, interval time.Duration, tracer trace.Tracer, now func() time.Time, log *slog.Logger) *Active {
	return &Active{lister: lister, counter: counter, broker: broker, interval: interval, tracer: tracer, now: now, log: log, tasks: map[string]activeTask{}}
}

// Handle answers the event that a run is active, which jobsource sends again and
// again: with the run's cancellation if Keptn no longer waits for its task, and
// with nothing else. So an abort is seen that happened while no bridge was there.
func (active *Active) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	var task keptn.Task
	begun, err := run.ActiveTask(received, &task)
	if err != nil {
		return nil, function.Permanent(err)
	}
	count, err := active.counter.Count(ctx, task)
	if err != nil {
		return nil, fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
	}
	if count.Standing != keptn.Over {
		if count.Started > 0 && count.Finished == 0 {
			active.Add(task, begun)
		}
		return nil, nil
	}
	active.log.InfoContext(ctx, "Keptn no longer waits for the task of a run; it is cancelled", "triggeredid", task.TriggeredID, "keptncontext", task.Context)
	cancelled, err := run.Cancelled(keptn.Source, run.ID(task.TriggeredID), active.now())
	if err != nil {
		return nil, err
	}
	return &cancelled, nil
}

// maxActive bounds how many tasks are looked after; jobsource names those that
// don't find a place again, while they run.
const maxActive = 10000

// Add adds a task that was started, and says whether its run has been seen. It
// stays no longer than Keptn holds it open.
func (active *Active) Add(task keptn.Task, hasRun bool) {
	active.mutex.Lock()
	defer active.mutex.Unlock()
	if _, known := active.tasks[task.TriggeredID]; !known && len(active.tasks) >= maxActive {
		return
	}
	active.tasks[task.TriggeredID] = activeTask{task, hasRun || active.tasks[task.TriggeredID].hasRun}
}

// HasRun says whether the run of a task has been seen.
func (active *Active) HasRun(task keptn.Task) bool {
	active.mutex.Lock()
	defer active.mutex.Unlock()
	return active.tasks[task.TriggeredID].hasRun
}

// Remove removes a task that was finished.
func (active *Active) Remove(task keptn.Task) {
	active.mutex.Lock()
	defer active.mutex.Unlock()
	delete(active.tasks, task.TriggeredID)
}

// Run looks after the tasks until the context ends.
func (active *Active) Run(ctx context.Context) error {
	ticker := time.NewTicker(active.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := active.look(ctx); err != nil && ctx.Err() == nil {
				active.log.WarnContext(ctx, "looking after running tasks failed, will be tried again", "error", err)
			}
		}
	}
}

// look asks Keptn for what is open of each type of which tasks run, and only
// about those that are missing one by one.
func (active *Active) look(ctx context.Context) error {
	active.mutex.Lock()
	byName := map[string][]keptn.Task{}
	for _, triggeredID := range slices.Sorted(maps.Keys(active.tasks)) {
		task := active.tasks[triggeredID].Task
		byName[task.Name] = append(byName[task.Name], task)
	}
	active.mutex.Unlock()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		tasks := byName[name]
		events, err := active.lister.OpenTriggered(ctx, keptn.TypeOf(name, keptn.Triggered))
		if err != nil {
			return err
		}
		open := map[string]bool{}
		for _, listed := range events {
			open[listed.ID()] = true
		}
		for _, task := range tasks {
			if open[task.TriggeredID] {
				continue
			}
			if err := active.cancel(ctx, task); err != nil {
				return err
			}
		}
	}
	return nil
}

func (active *Active) cancel(ctx context.Context, task keptn.Task) error {
	count, err := active.counter.Count(ctx, task)
	if err != nil {
		return fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
	}
	active.mutex.Lock()
	_, runs := active.tasks[task.TriggeredID]
	active.mutex.Unlock()
	if count.Standing != keptn.Over || !runs {
		return nil // it was finished meanwhile, by us
	}
	ctx, span := active.tracer.Start(function.ContextWithTraceID(ctx, task.Context), "bridge "+run.CancelledType, trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	cancelled, err := run.Cancelled(keptn.Source, run.ID(task.TriggeredID), active.now())
	if err != nil {
		return err
	}
	if err := active.broker.Send(ctx, cancelled); err != nil {
		return fmt.Errorf("cancelling the run of task %s: %w", task.TriggeredID, err)
	}
	active.log.InfoContext(ctx, "Keptn no longer waits for a task; its run is cancelled", "triggeredid", task.TriggeredID, "keptncontext", task.Context)
	active.Remove(task)
	return nil
}
