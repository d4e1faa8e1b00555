package keptn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Sender gives Keptn an event. Its success does not mean that Keptn counts it.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Counter asks Keptn what it has counted for a task.
type Counter interface {
	Count(ctx context.Context, task Task) (Count, error)
}

// Standing is where Keptn is with a task.
type Standing int

const (
	// Over is a task that completed, was aborted, timed out, or never existed.
	// Keptn ignores whatever is still sent for it.
	Over Standing = iota
	// Pending is a task whose triggered event is listed, but not dispatched yet,
	// or whose sequence is paused. Keptn answers 200 to a started event and drops it
	// (recording 30-started-too-early-dropped).
	Pending
	// Current is a task for which Keptn counts what is sent for it.
	Current
)

// Count is what Keptn has counted for a task.
type Count struct {
	Standing Standing
	// Started and Finished say whether an event of ours was counted.
	Started, Finished bool
	// Taken says whether anybody's started event was counted.
	Taken bool
}

// Count reads the task's state from Keptn's sequence executions.
func (client *Client) Count(ctx context.Context, task Task) (Count, error) {
	executions, err := client.Executions(ctx, task.Project, task.Context)
	if err != nil && !IsNotFound(err) {
		return Count{}, err
	}
	for _, execution := range executions {
		for _, previous := range execution.Status.PreviousTasks {
			if previous.TriggeredID == task.TriggeredID {
				return Count{Standing: Over}, nil
			}
		}
		current := execution.Status.CurrentTask
		if current.TriggeredID != task.TriggeredID {
			continue
		}
		switch execution.Status.State {
		case "finished", "aborted", "timedOut":
			return Count{Standing: Over}, nil
		}
		count := Count{Standing: Current}
		for _, counted := range current.Events {
			_, phase, _ := ParseType(counted.EventType)
			count.Taken = count.Taken || phase == Started
			if counted.Source == Source {
				count.Started = count.Started || phase == Started
				count.Finished = count.Finished || phase == Finished
			}
		}
		if execution.Status.State == "paused" && !count.Taken && !count.Finished {
			// Keptn would count for it (recording 45-pause-started-while-paused), and so
			// move a sequence on that somebody wanted to stand still.
			count.Standing = Pending
		}
		return count, nil
	}
	open, err := client.IsOpen(ctx, task)
	if err != nil {
		return Count{}, err
	}
	if open {
		return Count{Standing: Pending}, nil
	}
	return Count{Standing: Over}, nil
}

// Reporter gives Keptn exactly one started event before exactly one finished
// event for each task, however often and in whatever order it is given them.
// Keptn counts: a second started event leaves a sequence open for ever
// (recording 20-double-started). What it delivered is remembered; what it does
// not remember, for example after a restart, it asks Keptn.
type Reporter struct {
	sender  Sender
	counter Counter
	// verify is set where success of the sender is no acknowledgement (HTTP).
	verify bool
	now    func() time.Time
	wait   Wait
	log    *slog.Logger

	tasks *Memory[reported]
}

// Wait bounds how long the reporter waits for Keptn to have counted something.
type Wait struct {
	// Interval is the time between two looks, Limit the time for all of them.
	Interval, Limit time.Duration
}

// rememberedTasks bounds the memory; a task that fell out is asked for again.
const rememberedTasks = 10000

type reported struct {
	known    bool
	started  bool
	finished bool
}

// NewReporter returns a reporter. With verify it looks whether Keptn counted a
// started event, and repeats it if not; a transport that acknowledges does not
// need that.
func NewReporter(sender Sender, counter Counter, verify bool, wait Wait, now func() time.Time, log *slog.Logger) *Reporter {
	return &Reporter{
		sender: sender, counter: counter, verify: verify, wait: wait, now: now, log: log, tasks: NewMemory[reported](rememberedTasks),
	}
}

// ErrNotCounted is returned when Keptn did not count an event in time, although
// the task is open. Delivering it again later is right.
var ErrNotCounted = errors.New("Keptn has not counted it yet")

// Deliver gives Keptn a started or finished event, unless it has it already or
// no longer wants it. An error means that it has to be delivered again.
func (reporter *Reporter) Deliver(ctx context.Context, outgoing event.Event) error {
	task, err := TaskOf(outgoing)
	if err != nil {
		return err
	}
	_, phase, _ := ParseType(outgoing.Type())
	log := reporter.log.With("type", outgoing.Type(), "triggeredid", task.TriggeredID, "keptncontext", task.Context)

	entry, release, err := reporter.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return err
	}
	defer release()
	if !entry.known {
		over, err := reporter.learn(ctx, task, entry)
		if err != nil {
			return err
		}
		if over {
			log.InfoContext(ctx, "Keptn no longer waits for this task; its event is dropped")
			return nil
		}
	}
	switch phase {
	case Started:
		if entry.started {
			log.DebugContext(ctx, "Keptn has this event already; it is dropped")
			return nil
		}
		return reporter.sendStarted(ctx, task, outgoing, entry)
	case Finished:
		if entry.finished {
			log.DebugContext(ctx, "Keptn has this event already; it is dropped")
			return nil
		}
		if !entry.started {
			if err := reporter.sendStarted(ctx, task, task.Started(reporter.now()), entry); err != nil {
				return err
			}
		}
		if err := reporter.send(ctx, outgoing, entry); err != nil {
			return err
		}
		entry.finished = true
		return nil
	default:
		return fmt.Errorf("event type %q is no answer to a task", outgoing.Type())
	}
}

// learn finds out what Keptn has counted, and waits while it would drop events.
func (reporter *Reporter) learn(ctx context.Context, task Task, entry *reported) (over bool, err error) {
	var count Count
	err = reporter.poll(ctx, func() (bool, error) {
		count, err = reporter.counter.Count(ctx, task)
		return count.Standing != Pending, err
	})
	if err != nil {
		return false, fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
	}
	entry.known = true
	over = count.Standing == Over
	entry.started = over || count.Started
	entry.finished = over || count.Finished
	return over, nil
}

// send sends an event. One that failed may have arrived all the same, so what
// Keptn knows decides the next time.
func (reporter *Reporter) send(ctx context.Context, outgoing event.Event, entry *reported) error {
	if err := reporter.sender.Send(ctx, outgoing); err != nil {
		entry.known = false
		return fmt.Errorf("sending %s: %w", outgoing.Type(), err)
	}
	return nil
}

// sendAttempts is how often a started event is sent that Keptn drops.
const sendAttempts = 3

func (reporter *Reporter) sendStarted(ctx context.Context, task Task, started event.Event, entry *reported) error {
	for range sendAttempts {
		if err := reporter.send(ctx, started, entry); err != nil {
			return err
		}
		if !reporter.verify {
			entry.started = true
			return nil
		}
		err := reporter.poll(ctx, func() (bool, error) {
			count, err := reporter.counter.Count(ctx, task)
			return count.Started || count.Standing == Over, err
		})
		if err == nil {
			entry.started = true
			return nil
		}
		if !errors.Is(err, ErrNotCounted) {
			// It may have been counted: what Keptn knows decides the next time.
			entry.known = false
			return fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
		}
		reporter.log.WarnContext(ctx, "Keptn dropped the started event; it is sent again", "triggeredid", task.TriggeredID)
	}
	entry.known = false
	return fmt.Errorf("sending %s: %w", started.Type(), ErrNotCounted)
}

func (reporter *Reporter) poll(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reporter.wait.Limit, ErrNotCounted)
	defer cancel()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(reporter.wait.Interval):
		}
	}
}
