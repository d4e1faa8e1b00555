package outward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/jobphase"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Reporter gives Keptn exactly one started and then exactly one finished event for
// each task, however often and in whatever order it is given them. Keptn counts: a
// second started event leaves a sequence open for ever (recording 20-double-started),
// unless there is a second finished event, too.
//
// Keptn answers with success to what it counts later, or never: so what was sent is
// sent again only once it is lost for certain. That it is not counted is no proof; that
// it is not after the Timing's Loss is.
type Reporter struct {
	Sender  Sender
	Counter keptn.Counter
	// Archive is asked before an event is sent that may have been sent before. It may be nil.
	Archive Archive
	// Source is the source of all that it sends.
	Source  string
	Timing  Timing
	Now     func() time.Time
	Metrics Metrics
	Log     *slog.Logger

	begun time.Time
	tasks memory.Memory[reported]
}

// Archive knows which answers were published, as mongodb-datastore does. If an event is published
// twice with the same id, only shipyard-controller gets it once: every subscriber of Keptn's core NATS
// gets it twice (K3 of a real Keptn 1.4.5).
type Archive interface {
	// Published returns the times at which our answers to a task were published.
	Published(ctx context.Context, task keptn.Task, phase keptn.Phase) ([]time.Time, error)
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

// Metrics measure what becomes of answers, as runmetric.Recorder does.
type Metrics interface {
	Sent(ctx context.Context, answer keptn.Answer, isAgain bool, err error)
	Dropped(ctx context.Context, phase keptn.Phase)
	Jobs(ctx context.Context, task keptn.Task, jobs []jobphase.Phases)
}

// Begin has the reporter begin its work now, as it must before the first delivery, and
// again when the bridge is elected: what was sent before, by the bridge before this one,
// it does not know.
func (reporter *Reporter) Begin() { reporter.begun = reporter.Now() }

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
	// Refusal says why Keptn was sent an errored event in place of a finished one that it refuses.
	Refusal string
}

// HasStarted says whether a run of a task has begun, as far as this process knows: it
// was given an answer for it. Its error is that the context ended.
func (reporter *Reporter) HasStarted(ctx context.Context, task keptn.Task) (bool, error) {
	entry, release, err := reporter.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return false, err
	}
	defer release()
	return entry.heard || entry.settled, nil
}

// Deliver gives Keptn an answer, as far as Keptn needs it. An error means that Keptn
// could not be asked, or could not be given the event, or does not want it yet; then it
// has to be delivered again.
func (reporter *Reporter) Deliver(ctx context.Context, answer keptn.Answer) (delivery Delivery, err error) {
	entry, release, err := reporter.tasks.Hold(ctx, answer.Task.TriggeredID)
	if err != nil {
		return Delivery{}, err
	}
	defer release()
	entry.learn(answer)
	deadline, pause := reporter.Now().Add(reporter.Timing.Limit), reporter.Timing.Interval
	for {
		if entry.settled {
			reporter.drop(ctx, answer, delivery.Sent)
			return Delivery{Sent: delivery.Sent, Settled: true, Aborted: entry.aborted, Refusal: entry.finished.refusal}, nil
		}
		count, err := reporter.Counter.Count(ctx, answer.Task)
		if err != nil {
			return delivery, err
		}
		now := reporter.Now()
		entry.note(count, now)
		state := known{*entry, count, reporter.Timing, reporter.begun, now}
		switch next(state, answer.Phase) {
		case over:
			entry.settled, entry.aborted = true, count.Standing == keptn.Aborted
			continue
		case enough:
			reporter.drop(ctx, answer, delivery.Sent)
			return delivery, nil
		case sendStarted:
			if state.isUncertain(entry.started, entry.triggeredAt) && reporter.wasPublished(ctx, answer.Task, keptn.Started, count.Started, &entry.started) {
				continue
			}
			started := answer
			if answer.Phase != keptn.Started {
				started.Phase, started.Event = keptn.Started, answer.Task.Started(now)
			}
			if err := reporter.send(ctx, started, count.Started, &entry.started); err != nil {
				if reporter.reduce(ctx, started, err, &entry.started) {
					continue
				}
				return delivery, err
			}
			delivery.Sent = delivery.Sent || answer.Phase == keptn.Started
			continue
		case sendFinished:
			if state.isUncertain(entry.finished, state.since()) && reporter.wasPublished(ctx, answer.Task, keptn.Finished, count.Finished, &entry.finished) {
				continue
			}
			err := reporter.send(ctx, answer, count.Finished, &entry.finished)
			switch {
			case err != nil && reporter.reduce(ctx, answer, err, &entry.finished):
				continue
			case errors.Is(err, errLost) || err != nil && isRefusal(err):
				reporter.Log.ErrorContext(ctx, "giving the task up: Keptn does not record its finished event",
					"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "error", err)
				entry.settled = true
				continue
			case err != nil:
				return delivery, err
			}
			delivery.Sent, delivery.Refusal = true, entry.finished.refusal
			continue
		case wait:
			reporter.logHeld(ctx, entry, count, answer)
		}
		if !now.Add(pause).Before(deadline) {
			if count.Standing == keptn.Pending {
				return delivery, fmt.Errorf("giving Keptn %s: %w", answer.Event.Type(), ErrPending)
			}
			return delivery, nil
		}
		select {
		case <-ctx.Done():
			return delivery, fmt.Errorf("waiting for Keptn to count %s: %w", answer.Event.Type(), context.Cause(ctx))
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// wasPublished reports whether an answer was already published and Keptn may still count it. It then
// records the time in before. If the archive cannot be asked, it returns false, so that the answer is
// sent.
func (reporter *Reporter) wasPublished(ctx context.Context, task keptn.Task, phase keptn.Phase, counted int, before *sent) bool {
	if reporter.Archive == nil {
		return false
	}
	published, err := reporter.Archive.Published(ctx, task, phase)
	if err != nil {
		reporter.Log.DebugContext(ctx, "sending an event that may have been published before", "error", err)
	}
	if len(published) <= counted {
		return false
	}
	latest := slices.MaxFunc(published, time.Time.Compare)
	if reporter.Now().Sub(latest) >= reporter.Timing.Loss {
		return false
	}
	*before = sent{times: 1, before: counted, first: latest, last: latest, refusal: before.refusal}
	return true
}

// logHeld logs once why an answer is held back that this bridge has not sent: the bridge before it
// may have sent it, and a second one would count.
func (reporter *Reporter) logHeld(ctx context.Context, entry *reported, count keptn.Count, answer keptn.Answer) {
	if entry.held || count.Standing != keptn.Current || entry.started.times+entry.finished.times > 0 {
		return
	}
	entry.held = true
	reporter.Log.InfoContext(ctx, "holding an event back: the bridge before this one may have sent it", "type", answer.Event.Type(),
		"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "until", reporter.begun.Add(reporter.Timing.Loss).UTC().Format(time.RFC3339))
}

// errLost says that Keptn accepted an event several times and never counted it.
var errLost = fmt.Errorf("Keptn accepted it %d times and did not record it", maxLost)

func isRefusal(err error) bool {
	said := saidOf(err)
	return said == refused || said == tooLarge
}

// reduce has a minimal event sent in place of one that Keptn refuses for good, or never records.
// It returns false if the error is another one, or if the minimal event itself is refused.
func (reporter *Reporter) reduce(ctx context.Context, answer keptn.Answer, err error, before *sent) bool {
	if !isRefusal(err) && !errors.Is(err, errLost) || !before.refuse(err.Error()) {
		return false
	}
	reporter.Log.WarnContext(ctx, "Keptn refuses an event; sending a minimal one in its place", "type", answer.Event.Type(),
		"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "error", err)
	return true
}

// minimal returns the event to send for an answer: its own, or if Keptn refuses that, one with
// nothing that a task or the triggered event has said.
func minimal(answer keptn.Answer, refusal string, now time.Time) event.Event {
	if refusal == "" {
		return answer.Event
	}
	task := answer.Task
	task.Labels = nil
	if answer.Phase == keptn.Started {
		return task.Started(now)
	}
	return task.Finished(now, keptn.Errored(RefusalMessage(answer.Task, refusal)))
}

// RefusalMessage says that Keptn refused a task's finished event, and where to find the result.
func RefusalMessage(task keptn.Task, refusal string) string {
	return fmt.Sprintf("Keptn refused the result of this task: %s. What it reported is in the status of its pods: kubectl get pods --all-namespaces --selector %s=%s",
		excerpt.Shorten(refusal, "the log of the bridge", maxRefusalBytes), run.EventIDLabel, run.ID(task.TriggeredID))
}

// maxRefusalBytes bounds what a minimal event quotes.
const maxRefusalBytes = 1 << 10

// drop counts an event that is not given to Keptn, unless it was just now.
func (reporter *Reporter) drop(ctx context.Context, answer keptn.Answer, sent bool) {
	if sent {
		return
	}
	reporter.Metrics.Dropped(ctx, answer.Phase)
	reporter.Log.DebugContext(ctx, "an event is dropped that Keptn has already, or no longer waits for",
		"task", answer.Task.Name, "phase", answer.Phase, "triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context)
}

// send sends an event, of which Keptn has counted some before. One that failed may have
// arrived all the same, unless Keptn said no.
func (reporter *Reporter) send(ctx context.Context, answer keptn.Answer, counted int, before *sent) error {
	now := reporter.Now()
	outgoing := keptn.OneMore(minimal(answer, before.refusal, now), counted)
	outgoing.SetSource(reporter.Source)
	outgoing.SetExtension(keptn.TriggeredAtExtension, nil)
	// Over NATS the time is ours; it must not run backwards.
	outgoing.SetTime(now)
	again := *before
	if again.times == 0 || counted >= again.before+again.times {
		again = sent{before: counted, first: now, refusal: before.refusal}
	}
	if !again.failed && again.times > 0 {
		if again.lost++; again.lost >= maxLost {
			before.lost = again.lost
			return fmt.Errorf("sending %s: %w", outgoing.Type(), errLost)
		}
		reporter.Log.WarnContext(ctx, "event accepted but not recorded by Keptn; resending",
			"type", outgoing.Type(), "triggeredid", outgoing.Extensions()[keptn.TriggeredIDExtension], "after", now.Sub(again.last).String())
		again.first = now
	}
	err := reporter.Sender.Send(ctx, outgoing)
	reporter.Metrics.Sent(ctx, answer, again.times > 0, err)
	reporter.Log.DebugContext(ctx, "an event was given to Keptn", "type", outgoing.Type(), "triggeredid", outgoing.Extensions()[keptn.TriggeredIDExtension], "error", err)
	again.times, again.last, again.failed = 1, reporter.Now(), err != nil
	if said := saidOf(err); said == taken || said == unclear {
		*before = again
	}
	if err != nil {
		return fmt.Errorf("sending %s: %w", outgoing.Type(), err)
	}
	return nil
}
