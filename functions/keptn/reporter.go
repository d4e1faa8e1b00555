package keptn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
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
	// Started and Finished are how many events of ours were counted.
	Started, Finished int
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
				switch phase {
				case Started:
					count.Started++
				case Finished:
					count.Finished++
				}
			}
		}
		if execution.Status.State == "paused" && !count.Taken && count.Finished == 0 {
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
	verify  bool
	now     func() time.Time
	wait    Wait
	dropped metric.Int64Counter
	log     *slog.Logger

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
	// over says that Keptn no longer waits for the task.
	over bool
	// onItsWayUntil is until when a started event may arrive that Keptn has taken.
	onItsWayUntil time.Time
}

// NewReporter returns a reporter. With verify it looks whether Keptn counted what
// it was sent, and repairs what it did not; a transport that acknowledges and
// recognises repetitions does not need that. Meter counts what is dropped.
func NewReporter(sender Sender, counter Counter, verify bool, wait Wait, now func() time.Time, meter metric.Meter, log *slog.Logger) *Reporter {
	dropped, err := meter.Int64Counter("keptn.events.dropped", metric.WithUnit("{event}"),
		metric.WithDescription("Started and finished events that were not given to Keptn, since it has them or no longer waits for them."))
	if err != nil {
		dropped = noop.Int64Counter{} // only for a name that is not valid
	}
	return &Reporter{
		sender: sender, counter: counter, verify: verify, wait: wait, now: now, dropped: dropped, log: log, tasks: NewMemory[reported](rememberedTasks),
	}
}

// ErrNotCounted is returned when Keptn did not count an event in time, although
// the task is open. Delivering it again later is right.
var ErrNotCounted = errors.New("Keptn has not counted it yet")

// The reasons for which an event is dropped.
const (
	duplicate = "duplicate"
	late      = "late"
)

// Deliver gives Keptn a started or finished event, unless it has it already or
// no longer wants it; it says whether it was sent. An error means that it has to be
// delivered again.
func (reporter *Reporter) Deliver(ctx context.Context, outgoing event.Event) (sent bool, err error) {
	task, err := TaskOf(outgoing)
	if err != nil {
		return false, err
	}
	_, phase, _ := ParseType(outgoing.Type())
	entry, release, err := reporter.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return false, err
	}
	defer release()
	if !entry.known {
		if err := reporter.learn(ctx, task, entry); err != nil {
			return false, err
		}
	}
	switch {
	case entry.over:
		reporter.drop(ctx, task, phase, late)
		return false, nil
	case phase == Started && entry.started, phase == Finished && entry.finished:
		reporter.drop(ctx, task, phase, duplicate)
		return false, nil
	case phase == Started:
		return true, reporter.sendStarted(ctx, task, outgoing, entry)
	case phase == Finished:
		if !entry.started {
			if err := reporter.sendStarted(ctx, task, task.Started(reporter.now()), entry); err != nil {
				return false, err
			}
		}
		return true, reporter.sendFinished(ctx, task, outgoing, entry)
	default:
		return false, fmt.Errorf("event type %q is no answer to a task", outgoing.Type())
	}
}

func (reporter *Reporter) drop(ctx context.Context, task Task, phase Phase, reason string) {
	reporter.dropped.Add(ctx, 1, metric.WithAttributes(attribute.String("keptn.event.phase", string(phase)), attribute.String("reason", reason)))
	reporter.log.DebugContext(ctx, "an event is dropped that Keptn has already, or no longer waits for",
		"task", task.Name, "phase", phase, "reason", reason, "triggeredid", task.TriggeredID, "keptncontext", task.Context)
}

// learn finds out what Keptn has counted, and waits while it would drop events.
func (reporter *Reporter) learn(ctx context.Context, task Task, entry *reported) error {
	var count Count
	err := reporter.poll(ctx, func() (done bool, err error) {
		count, err = reporter.counter.Count(ctx, task)
		return count.Standing != Pending, err
	})
	if err != nil {
		return fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
	}
	// What was sent, and may still be on its way, is not sent again: Keptn's stream
	// keeps it while shipyard-controller restarts (recording 55-shipyard-restart).
	if count.Started == 0 && count.Standing == Current && reporter.now().Before(entry.onItsWayUntil) {
		return fmt.Errorf("asking Keptn about task %s, whose started event may be on its way: %w", task.TriggeredID, ErrNotCounted)
	}
	entry.known = true
	entry.over = count.Standing == Over
	entry.started = count.Started > 0
	entry.finished = count.Finished > 0
	return nil
}

// send sends an event. One that failed may have arrived all the same, so what
// Keptn knows decides the next time.
func (reporter *Reporter) send(ctx context.Context, outgoing event.Event, entry *reported) error {
	if err := reporter.sender.Send(ctx, outgoing); err != nil {
		entry.known = false
		if _, phase, _ := ParseType(outgoing.Type()); phase == Started && reporter.verify && mayHaveArrived(err) {
			entry.onItsWayUntil = reporter.now().Add(redelivery)
		}
		return fmt.Errorf("sending %s: %w", outgoing.Type(), err)
	}
	return nil
}

// mayHaveArrived says whether Keptn may have taken an event although sending it
// failed: not if it said no, or was not reached.
func mayHaveArrived(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == http.StatusBadGateway || status.Code == http.StatusGatewayTimeout
	}
	var network *net.OpError
	return !errors.As(err, &network) || network.Op != "dial"
}

// mayBeRestarting says whether shipyard-controller, or all of Keptn, may be what
// could not be asked. Then what it was sent may lie in its stream for a while.
func mayBeRestarting(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		default:
			return false
		}
	}
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "dial"
}

const (
	// sendAttempts is how often an event is sent that Keptn drops.
	sendAttempts = 3
	// redelivery is after what time Keptn's stream gives an event to a new
	// shipyard-controller that the one before had taken and not handled: its
	// consumer's ack_wait, and some (recordings 55-shipyard-restart, 56-jetstream).
	redelivery = 35 * time.Second
)

func (reporter *Reporter) sendStarted(ctx context.Context, task Task, started event.Event, entry *reported) error {
	for range sendAttempts {
		if err := reporter.send(ctx, started, entry); err != nil {
			return err
		}
		if !reporter.verify {
			entry.started = true
			return nil
		}
		sent, seen := reporter.now(), time.Time{}
		err := reporter.poll(ctx, func() (bool, error) {
			asked := reporter.now()
			count, err := reporter.counter.Count(ctx, task)
			if err != nil && !mayBeRestarting(err) {
				return false, nil // it is asked again
			}
			if err == nil {
				seen = asked
			}
			entry.over = err == nil && count.Standing == Over
			return count.Started > 0 || entry.over, err
		})
		if err == nil {
			entry.started = true
			return nil
		}
		if !errors.Is(err, ErrNotCounted) {
			// It was taken and may be counted later: shipyard-controller may be what can't
			// be asked.
			entry.known, entry.onItsWayUntil = false, reporter.now().Add(redelivery)
			return fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
		}
		if seen.Sub(sent) < reporter.wait.Limit/2 {
			break // Keptn has not said, or not lately, that it did not count it
		}
		reporter.log.WarnContext(ctx, "Keptn dropped the started event; it is sent again", "triggeredid", task.TriggeredID)
	}
	entry.known = false
	return fmt.Errorf("sending %s: %w", started.Type(), ErrNotCounted)
}

// sendFinished sends a finished event. Where a started event was counted twice all
// the same, so is the finished one: else the task would stay open for ever
// (recording 20-double-started).
func (reporter *Reporter) sendFinished(ctx context.Context, task Task, finished event.Event, entry *reported) error {
	for range sendAttempts {
		if err := reporter.send(ctx, finished, entry); err != nil {
			return err
		}
		entry.finished = true
		if !reporter.verify {
			return nil
		}
		var count Count
		err := reporter.poll(ctx, func() (done bool, err error) {
			count, err = reporter.counter.Count(ctx, task)
			return count.Standing == Over || count.Finished > 0, err
		})
		if err != nil || count.Standing == Over || count.Finished >= count.Started {
			// If it can't be asked now: it has taken the event, which it never drops once the
			// task is current.
			return nil
		}
		reporter.log.WarnContext(ctx, "Keptn has counted more started than finished events; the finished one is sent again",
			"triggeredid", task.TriggeredID, "started", count.Started, "finished", count.Finished)
	}
	return nil
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
