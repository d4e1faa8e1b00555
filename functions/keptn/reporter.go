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
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Sender gives Keptn an event. Its success does not mean that Keptn counts it.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Reporter gives Keptn exactly one started and then exactly one finished event for
// each task, however often and in whatever order it is given them. Keptn counts: a
// second started event leaves a sequence open for ever (recording 20-double-started),
// unless there is a second finished event, too.
//
// Keptn answers with success to what it counts later, or never: so what was sent is
// sent again only once it is lost for certain. That it is not counted is no proof; that
// it is not after the Timing's Loss is.
type Reporter struct {
	sender  Sender
	counter Counter
	source  string
	timing  Timing
	now     func() time.Time
	// begun is when this process began: what was sent before it does not know.
	begun   time.Time
	dropped metric.Int64Counter
	log     *slog.Logger

	tasks *Memory[reported]
}

// Timing is how the reporter waits.
type Timing struct {
	// Loss is after what time an event is lost that Keptn took and has not counted.
	// It is longer than any event stays in Keptn's stream.
	Loss time.Duration
	// Deduplication is for how long the transport recognises an event that it is sent
	// again; 0 if it does not.
	Deduplication time.Duration
	// Interval is the time until the second look within a delivery, which doubles; Limit
	// is the time for all of them.
	Interval, Limit time.Duration
}

// clockSkew is how much the clocks of Keptn, of the nodes and of this process may
// differ.
const clockSkew = 5 * time.Second

// rememberedTasks bounds the memory; a task that fell out is asked for again.
const rememberedTasks = 10000

type reported struct {
	started, finished sent
	// heard says that an answer was delivered here, whatever came of it.
	heard bool
	// settled says that Keptn has what it needs, or no longer waits for the task.
	settled bool
	// aborted says that it is settled since the task's sequence was aborted.
	aborted bool
	// unknownSince is since when Keptn has known nothing of the task.
	unknownSince time.Time
	// triggeredAt and endedAt are before which time nobody can have sent a started and
	// a finished event; zero if that is not known. A run has not ended before its task was
	// triggered.
	triggeredAt, endedAt time.Time
}

// sent is what this process has sent of one kind, or may have.
type sent struct {
	times int
	// before is how many Keptn had counted before the first.
	before int
	// first and last are when.
	first, last time.Time
	// failed says that the last one may not have arrived.
	failed bool
}

// NewReporter returns a reporter that sends as a source. Meter counts what is dropped.
func NewReporter(sender Sender, counter Counter, source string, timing Timing, now func() time.Time, meter metric.Meter, log *slog.Logger) *Reporter {
	dropped, err := meter.Int64Counter("keptn.events.dropped", metric.WithUnit("{event}"),
		metric.WithDescription("Started and finished events that were not given to Keptn, since it has them or no longer waits for them."))
	if err != nil {
		dropped = noop.Int64Counter{} // only for a name that is not valid
	}
	return &Reporter{
		sender: sender, counter: counter, source: source, timing: timing, now: now, begun: now(), dropped: dropped, log: log, tasks: NewMemory[reported](rememberedTasks),
	}
}

// ErrPending is returned when Keptn has not dispatched a task, or its sequence is
// paused. Delivering an event for it again later is right.
var ErrPending = errors.New("Keptn has not dispatched the task, or its sequence is paused")

// Delivery is what came of an event.
type Delivery struct {
	// Sent says that an event of its type was sent.
	Sent bool
	// Settled says that Keptn has counted what it needs of the task, a finished event
	// included, or no longer waits for it. If not, and there is no error, Keptn has taken
	// the event and not counted it yet.
	Settled bool
	// Aborted says that it is settled since the task's sequence was aborted, or timed out.
	Aborted bool
}

// step is what a task needs next.
type step int

const (
	wait step = iota
	sendStarted
	sendFinished
	// enough says that Keptn has counted what it is given.
	enough
	// over says that Keptn needs nothing any more.
	over
)

// decide says what a task needs next, from what Keptn has counted, from what was sent,
// and from what there is to give: a started event, or a finished one.
func (reporter *Reporter) decide(phase Phase, count Count, entry *reported, now time.Time) step {
	switch count.Standing {
	case Completed, Aborted:
		return over
	case Unknown:
		if !entry.unknownSince.IsZero() && now.Sub(entry.unknownSince) > reporter.timing.Loss {
			return over // it was deleted, with its project or with all of Keptn
		}
		return wait
	case Pending:
		return wait
	}
	switch {
	case count.Started == 0 && reporter.mayBeUnderWay(entry.started, 0, entry.triggeredAt, now):
		return wait
	case count.Started == 0:
		return sendStarted
	case phase == Started:
		return enough
	case count.Finished >= count.Started:
		return over
	case reporter.mayBeUnderWay(entry.finished, count.Finished, latest(entry.triggeredAt, entry.endedAt), now):
		return wait
	default:
		return sendFinished
	}
}

// mayBeUnderWay says whether an event may still be counted that was sent: by this
// process, or by one before it, which can't have been before since.
func (reporter *Reporter) mayBeUnderWay(sent sent, counted int, since, now time.Time) bool {
	deduplication := reporter.timing.Deduplication
	if sent.times > 0 {
		if counted >= sent.before+sent.times {
			return false // all of them were counted
		}
		first := sent.first
		if !since.After(reporter.begun.Add(clockSkew)) {
			first = since // the process before this one may have sent it first
		}
		if sent.failed && deduplication > 0 && now.Sub(first)+clockSkew < deduplication {
			return false // the transport drops it if it has it
		}
		return now.Sub(sent.last) < reporter.timing.Loss
	}
	if now.Sub(reporter.begun) >= reporter.timing.Loss || counted > 0 {
		return false
	}
	if since.IsZero() {
		return true
	}
	if since.After(reporter.begun.Add(clockSkew)) {
		return false // only this process can have sent it
	}
	return deduplication == 0 || now.Sub(since)+clockSkew >= deduplication
}

func latest(one, other time.Time) time.Time {
	if one.After(other) {
		return one
	}
	return other
}

func (entry *reported) learn(task Task, endedAt time.Time) {
	if entry.triggeredAt.IsZero() {
		entry.triggeredAt = task.TriggeredAt
	}
	if entry.endedAt.IsZero() || endedAt.Before(entry.endedAt) && !endedAt.IsZero() {
		entry.endedAt = endedAt
	}
}

// HasStarted says whether a run of a task has begun, as far as this process knows: it
// was given an answer for it.
func (reporter *Reporter) HasStarted(ctx context.Context, task Task) (bool, error) {
	entry, release, err := reporter.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return false, err
	}
	defer release()
	return entry.heard || entry.settled, nil
}

// Deliver gives Keptn a started or finished event of a task, as far as Keptn needs it.
// Ended is when the run of a finished event ended, zero if that is not known. An error
// means that Keptn could not be asked, or could not be given the event, or does not
// want it yet; then it has to be delivered again.
func (reporter *Reporter) Deliver(ctx context.Context, outgoing event.Event, ended time.Time) (delivery Delivery, err error) {
	task, phase, err := ParseTask(outgoing)
	if err != nil {
		return Delivery{}, err
	}
	if phase != Started && phase != Finished {
		return Delivery{}, fmt.Errorf("event type %q is no answer to a task", outgoing.Type())
	}
	entry, release, err := reporter.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return Delivery{}, err
	}
	defer release()
	entry.learn(task, ended)
	entry.heard = true
	deadline, pause := reporter.now().Add(reporter.timing.Limit), reporter.timing.Interval
	for {
		if entry.settled {
			reporter.drop(ctx, task, phase, delivery.Sent)
			return Delivery{Sent: delivery.Sent, Settled: true, Aborted: entry.aborted}, nil
		}
		count, err := reporter.counter.Count(ctx, task)
		if err != nil {
			return delivery, fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
		}
		now := reporter.now()
		entry.note(count, now)
		switch reporter.decide(phase, count, entry, now) {
		case over:
			entry.settled, entry.aborted = true, count.Standing == Aborted
			continue
		case enough:
			reporter.drop(ctx, task, phase, delivery.Sent)
			return delivery, nil
		case sendStarted:
			started := task.Started(now)
			if phase == Started {
				started = outgoing
			}
			if err := reporter.send(ctx, started, count.Started, &entry.started); err != nil {
				return delivery, err
			}
			delivery.Sent = delivery.Sent || phase == Started
			continue
		case sendFinished:
			if err := reporter.send(ctx, outgoing, count.Finished, &entry.finished); err != nil {
				return delivery, err
			}
			delivery.Sent = true
			continue
		case wait:
		}
		if !now.Add(pause).Before(deadline) {
			if count.Standing == Pending {
				return delivery, fmt.Errorf("giving Keptn %s: %w", outgoing.Type(), ErrPending)
			}
			return delivery, nil
		}
		select {
		case <-ctx.Done():
			return delivery, fmt.Errorf("waiting for Keptn to count %s: %w", outgoing.Type(), context.Cause(ctx))
		case <-time.After(pause):
		}
		pause *= 2
	}
}

func (entry *reported) note(count Count, now time.Time) {
	switch {
	case count.Standing != Unknown:
		entry.unknownSince = time.Time{}
	case entry.unknownSince.IsZero():
		entry.unknownSince = now
	}
}

// drop counts an event that is not given to Keptn, unless it was just now.
func (reporter *Reporter) drop(ctx context.Context, task Task, phase Phase, sent bool) {
	if sent {
		return
	}
	reporter.dropped.Add(ctx, 1, metric.WithAttributes(attribute.String("keptn.event.phase", string(phase))))
	reporter.log.DebugContext(ctx, "an event is dropped that Keptn has already, or no longer waits for",
		"task", task.Name, "phase", phase, "triggeredid", task.TriggeredID, "keptncontext", task.Context)
}

// send sends an event, of which Keptn has counted some before. One that failed may have
// arrived all the same, unless Keptn said no.
func (reporter *Reporter) send(ctx context.Context, outgoing event.Event, counted int, sent *sent) error {
	now := reporter.now()
	outgoing = outgoing.Clone()
	outgoing.SetSource(reporter.source)
	outgoing.SetExtension(TriggeredAtExtension, nil)
	// Over NATS the time is ours; it must not run backwards.
	outgoing.SetTime(now)
	if counted > 0 {
		// It is one more on purpose, and must not be taken for the same.
		outgoing.SetID(uuid.NewSHA1(answerNamespace, fmt.Appendf(nil, "%s.%d", outgoing.ID(), counted)).String())
	}
	again := *sent
	if again.times == 0 || counted >= again.before+again.times {
		again = sentAt(counted, now)
	}
	if !again.failed && again.times > 0 {
		reporter.log.WarnContext(ctx, "Keptn has not counted an event that it took; it is sent again",
			"type", outgoing.Type(), "triggeredid", outgoing.Extensions()[TriggeredIDExtension], "after", now.Sub(again.last).String())
		again.first = now
	}
	again.times, again.failed = 1, false
	err := reporter.sender.Send(ctx, outgoing)
	reporter.log.DebugContext(ctx, "an event was given to Keptn", "type", outgoing.Type(), "triggeredid", outgoing.Extensions()[TriggeredIDExtension], "error", err)
	again.last = reporter.now()
	switch {
	case err == nil:
		*sent = again
		return nil
	case mayHaveArrived(err):
		again.failed = true
		*sent = again
	}
	return fmt.Errorf("sending %s: %w", outgoing.Type(), err)
}

func sentAt(counted int, now time.Time) sent { return sent{before: counted, first: now} }

// mayHaveArrived says whether Keptn may have taken an event although sending it
// failed: not if it said no, or was not reached.
func mayHaveArrived(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code >= http.StatusInternalServerError && !status.Own && status.Code != http.StatusServiceUnavailable
	}
	var network *net.OpError
	return !errors.As(err, &network) || network.Op != "dial"
}
