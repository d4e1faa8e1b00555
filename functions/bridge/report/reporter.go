package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Reporter makes sure that Keptn counts one started and then one finished event per task, however often
// and in whatever order it gets answers. A second started event would leave the sequence open for ever,
// unless a second finished event follows (recording 20-double-started).
//
// Keptn's success does not mean that it counts an event soon, or at all. So the reporter asks Keptn what
// it has counted, and resends an event only once the event is certainly lost: after Timing.Loss. If it does not
// know whether an event was sent, it asks Keptn's archive, after Timing.Flight. It is safe for concurrent use.
type Reporter struct {
	// Sender sends to Keptn.
	Sender  protocol.Sender
	Counter keptn.Counter
	// Archive is asked before an event is sent that may have been sent already.
	Archive Archive
	// Source is the source of all events.
	Source string
	// TraceURL is the address of a trace, with {traceID} as a placeholder. Keptn's page shows it as the
	// label trace. Empty for no label.
	TraceURL string
	Limit    *SizeLimit
	Timing   Timing
	Tracer   trace.Tracer
	Now      func() time.Time
	Metrics  Metrics
	Log      *slog.Logger

	begun time.Time
	tasks memory.Memory[reported]

	mutex sync.Mutex
	// progress has counted events, in the order of their sending.
	progress []counted
}

// counted is when an event was sent, and when Keptn was found to have counted it.
type counted struct{ sentAt, at time.Time }

// Archive knows which answers were published, as mongodb-datastore does. If an event is published
// twice with the same id, only shipyard-controller gets it once: every subscriber of Keptn's core NATS
// gets it twice (K3 of a real Keptn 1.4.5).
type Archive interface {
	// Published returns how many of our answers to a task were published.
	Published(ctx context.Context, task keptn.Task, phase keptn.Phase) (int, error)
}

// Timing is how long the reporter waits for Keptn.
type Timing struct {
	// Loss is how long Keptn may take to count an accepted event. It is longer than any event
	// stays in Keptn's stream.
	Loss time.Duration
	// Flight is how long a request may be under way, even if its sender is dead, until Keptn's archive has its
	// event. An event that the archive lacks afterwards was never published.
	Flight time.Duration
	// Order is how long Keptn must have counted a later event for an earlier one to be lost. Keptn fetches its stream
	// in order, but fetches again what a dying process held (K4 of a real Keptn 1.4.5).
	Order time.Duration
	// Deduplication is how long the transport recognises a resent event; 0 if it does not.
	Deduplication time.Duration
	// Interval is the pause before the second question of a delivery. It doubles with each question.
	Interval time.Duration
	// Limit bounds all pauses of a delivery.
	Limit time.Duration
}

// Metrics measure answers, as runmetric.Recorder does.
type Metrics interface {
	Sent(ctx context.Context, answer protocol.Answer, isResend bool, err error)
	Dropped(ctx context.Context, phase keptn.Phase)
	Jobs(ctx context.Context, task keptn.Task, jobs []protocol.Job)
}

// Begin records that this bridge starts to work now. Call it before the first delivery, and again when
// the bridge is elected: the reporter does not know an earlier bridge's events.
func (r *Reporter) Begin() { r.begun = r.Now() }

// ErrPending is returned when Keptn has not dispatched a task yet, or has paused its sequence. The
// delivery must be repeated later.
var ErrPending = errors.New("Keptn has not dispatched the task, or its sequence is paused")

// ErrHeld is returned while the bridge before this one may have sent the event. The delivery must be repeated
// later.
var ErrHeld = errors.New("the bridge before this one may have sent it")

// Delivery is the outcome of a delivery.
type Delivery struct {
	// Sent is true if an event of the answer's type was sent.
	Sent bool
	// Settled is true if Keptn needs nothing more for the task. If it is false without an error, Keptn has
	// accepted the event and not counted it yet.
	Settled bool
	// Aborted is true if the task is settled because its sequence was aborted or timed out.
	Aborted bool
	// Refusal is why Keptn got an errored event instead of a finished event that it refused.
	Refusal string
}

// HasStarted reports whether a run of the task has begun, as far as this bridge knows. It returns an
// error only if the context ends.
func (r *Reporter) HasStarted(ctx context.Context, task keptn.Task) (bool, error) {
	entry, release, err := r.tasks.Hold(ctx, task.TriggeredID)
	if err != nil {
		return false, err
	}
	defer release()
	return entry.heard || entry.settled, nil
}

// Deliver sends the events of an answer that Keptn still needs. It returns an error if Keptn cannot be
// asked, does not accept the event, or does not want it yet. The answer must then be delivered again.
func (r *Reporter) Deliver(ctx context.Context, answer protocol.Answer) (delivery Delivery, err error) {
	entry, release, err := r.tasks.Hold(ctx, answer.Task.TriggeredID)
	if err != nil {
		return Delivery{}, err
	}
	defer release()
	entry.learn(answer)
	deadline, pause := r.Now().Add(r.Timing.Limit), r.Timing.Interval
	if entry.isSlow {
		pause = r.Timing.Limit // ask once
	}
	for {
		if entry.settled {
			r.drop(ctx, answer, delivery.Sent)
			return Delivery{Sent: delivery.Sent, Settled: true, Aborted: entry.aborted, Refusal: entry.finished.refusal}, nil
		}
		count, err := r.Counter.Count(ctx, answer.Task)
		if err != nil {
			return delivery, err
		}
		now := r.Now()
		entry.note(count, now)
		state := known{reported: *entry, count: count, timing: r.Timing, begun: r.begun, now: now}
		state.handled = r.handled(state)
		switch r.decide(ctx, entry, state, answer) {
		case over:
			entry.settled, entry.aborted = true, count.Standing == keptn.Aborted
			continue
		case enough:
			r.drop(ctx, answer, delivery.Sent)
			return delivery, nil
		case sendStarted:
			started := answer
			if answer.Phase != keptn.Started {
				started = protocol.Answer{Task: answer.Task, Phase: keptn.Started}
			}
			if err := r.send(ctx, started, count.Started, &entry.started); err != nil {
				if r.reduce(ctx, started, err, &entry.started) {
					continue
				}
				return delivery, err
			}
			delivery.Sent, pause = delivery.Sent || answer.Phase == keptn.Started, r.Timing.Interval
			continue
		case sendFinished:
			err := r.send(ctx, answer, count.Finished, &entry.finished)
			switch {
			case err != nil && r.reduce(ctx, answer, err, &entry.finished):
				continue
			case errors.Is(err, errLost) || err != nil && isRefusal(err):
				r.Log.ErrorContext(ctx, "giving the task up: Keptn does not record its finished event",
					"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "error", err)
				entry.settled = true
				continue
			case err != nil:
				return delivery, err
			}
			delivery.Sent, delivery.Refusal, pause = true, entry.finished.refusal, r.Timing.Interval
			continue
		case wait:
		}
		flightEnd := r.begun.Add(r.Timing.Flight)
		isHeld := now.Before(entry.heldUntil) && now.Before(flightEnd)
		if isHeld {
			pause = min(flightEnd.Sub(now), max(pause, deadline.Sub(now)-1)) // until then, questions are useless
		}
		if !now.Add(pause).Before(deadline) {
			entry.isSlow = true
			switch {
			case count.Standing == keptn.Pending:
				return delivery, fmt.Errorf("send %s: %w", answer.EventType(), ErrPending)
			case isHeld:
				return delivery, fmt.Errorf("send %s: %w", answer.EventType(), ErrHeld)
			}
			return delivery, nil
		}
		select {
		case <-ctx.Done():
			return delivery, fmt.Errorf("wait for Keptn to count %s: %w", answer.EventType(), context.Cause(ctx))
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// handled records which events of a task Keptn has counted. It returns when the latest of all events was sent that
// Keptn counted at least Timing.Order ago, zero before the first one.
func (r *Reporter) handled(state known) (latest time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	record := func(s sent, number int) {
		isNews := len(r.progress) == 0 || s.first.Sub(r.progress[len(r.progress)-1].sentAt) >= time.Second
		if number >= s.before+s.times && !s.first.IsZero() && isNews {
			r.progress = append(r.progress, counted{s.first, state.now})
		}
	}
	if count := state.count; state.isOurs(state.triggeredAt) && !count.Archived {
		record(state.started, count.Started)
		if count.Standing == keptn.Completed {
			count.Finished = math.MaxInt
		}
		record(state.finished, count.Finished)
	}
	for len(r.progress) > 1 && state.now.Sub(r.progress[1].at) >= r.Timing.Order {
		r.progress = r.progress[1:]
	}
	if len(r.progress) == 0 || state.now.Sub(r.progress[0].at) < r.Timing.Order {
		return time.Time{}
	}
	return r.progress[0].sentAt
}

// decide returns the next step. Before it sends an event that may have been sent already, it asks the archive. It waits
// for a published event, and without the archive's answer it sends nothing that Keptn could count twice.
func (r *Reporter) decide(ctx context.Context, entry *reported, state known, answer protocol.Answer) step {
	step := next(state, answer.Phase)
	before, phase, counted, since := &entry.started, keptn.Started, state.count.Started, entry.triggeredAt
	switch step {
	case sendStarted:
	case sendFinished:
		before, phase, counted, since = &entry.finished, keptn.Finished, state.count.Finished, state.since()
	case wait:
		r.hold(ctx, entry, state, answer, nil)
		return wait
	default:
		return step
	}
	if !state.isUncertain(*before, since) {
		return step
	}
	published, err := r.Archive.Published(ctx, answer.Task, phase)
	switch {
	case err != nil && state.needsProof(*before, counted, since):
		r.hold(ctx, entry, state, answer, err)
		return wait
	case err != nil:
		r.Log.DebugContext(ctx, "sending an event that may have been published before", "error", err)
		return step
	case published <= counted:
		return step
	case before.times > 0:
		before.failed = false
	default:
		r.Log.InfoContext(ctx, "the bridge before this one has published an event; waiting until Keptn counts it",
			"type", keptn.TypeOf(answer.Task.Name, phase), "triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context)
		*before = sent{times: 1, before: counted, last: state.now, refusal: before.refusal}
	}
	return wait
}

// hold logs once why an answer is held back that this bridge has not sent: the bridge before it
// may have sent it, and a second one would count. The error is the archive's.
func (r *Reporter) hold(ctx context.Context, entry *reported, state known, answer protocol.Answer, err error) {
	if state.count.Standing != keptn.Current || entry.started.times+entry.finished.times > 0 {
		return
	}
	until := r.begun.Add(r.Timing.Flight)
	if err != nil {
		until = r.begun.Add(r.Timing.Loss)
	}
	if !until.After(entry.heldUntil) {
		return
	}
	entry.heldUntil = until
	r.Log.InfoContext(ctx, "holding an event back: the bridge before this one may have sent it", "type", answer.EventType(),
		"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "until", until.UTC().Format(time.RFC3339), "error", err)
}

// errLost means that Keptn accepted an event several times and never counted it.
var errLost = fmt.Errorf("Keptn accepted it %d times and did not record it", maxLost)

// reduce replaces an event that Keptn refuses or never records with a minimal one, from now on. It
// returns false for other errors, and if the minimal event itself is refused.
func (r *Reporter) reduce(ctx context.Context, answer protocol.Answer, err error, before *sent) bool {
	refusal := errors.Unwrap(err) // without what this process attempted
	if !isRefusal(err) && !errors.Is(err, errLost) || !before.refuse(refusal.Error()) {
		return false
	}
	r.Log.WarnContext(ctx, "Keptn refuses an event; sending a minimal one in its place", "type", answer.EventType(),
		"triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context, "error", err)
	return true
}

// RefusalMessage says that Keptn refused a task's finished event, and where to find the result.
func RefusalMessage(task keptn.Task, refusal string) string {
	return fmt.Sprintf("Keptn refused the result of this task: %s. The report is in the status of its pods: kubectl get pods --all-namespaces --selector %s=%s",
		excerpt.Shorten(refusal, "the log of the bridge", maxRefusalBytes), run.EventIDLabel, run.ID(task.TriggeredID))
}

// maxRefusalBytes bounds the quoted refusal in a minimal event.
const maxRefusalBytes = 1 << 10

// drop counts an answer that Keptn does not need, unless it was sent in the same delivery.
func (r *Reporter) drop(ctx context.Context, answer protocol.Answer, sent bool) {
	if sent {
		return
	}
	r.Metrics.Dropped(ctx, answer.Phase)
	r.Log.DebugContext(ctx, "dropping an event that Keptn does not need",
		"task", answer.Task.Name, "phase", answer.Phase, "triggeredid", answer.Task.TriggeredID, "keptncontext", answer.Task.Context)
}

// send sends the event of an answer. Counted is how many events of its kind Keptn has counted. Unless an error is a
// clear refusal, the event may have arrived.
func (r *Reporter) send(ctx context.Context, answer protocol.Answer, counted int, before *sent) error {
	now := r.Now()
	attempt := *before
	if attempt.times == 0 || counted >= attempt.before+attempt.times {
		attempt = sent{before: counted, first: now, refusal: before.refusal}
	}
	if !attempt.failed && attempt.times > 0 {
		if attempt.lost++; attempt.lost >= maxLost {
			before.lost = attempt.lost
			return fmt.Errorf("send %s: %w", answer.EventType(), errLost)
		}
		r.Log.WarnContext(ctx, "event accepted but not recorded by Keptn; resending",
			"type", answer.EventType(), "triggeredid", answer.Task.TriggeredID, "after", now.Sub(attempt.last).String())
		attempt.first = now
	}
	err := r.sendFitting(ctx, answer, counted, before.refusal, now)
	r.Metrics.Sent(ctx, answer, attempt.times > 0, err)
	r.Log.DebugContext(ctx, "event sent to Keptn", "type", answer.EventType(), "triggeredid", answer.Task.TriggeredID, "error", err)
	attempt.times, attempt.last, attempt.failed = 1, r.Now(), err != nil
	if verdict := verdictOf(err); verdict == accepted || verdict == unclear {
		*before = attempt
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", answer.EventType(), err)
	}
	return nil
}

// sendFitting sends an event within Keptn's size limit. If Keptn refuses the event as too large,
// a smaller one follows.
func (r *Reporter) sendFitting(ctx context.Context, answer protocol.Answer, counted int, refusal string, now time.Time) error {
	for {
		limit := r.Limit.current()
		outgoing, err := r.event(answer, counted, refusal, now, limit)
		if err != nil {
			return err
		}
		err = r.sendTraced(ctx, answer.Task, outgoing)
		if !r.Limit.lower(ctx, limit, err) {
			return err
		}
	}
}

// event builds Keptn's event of at most limit bytes. After a refusal, it contains nothing from the task or the
// triggered event. Its time is the time of sending: over NATS, times must not run backwards.
func (r *Reporter) event(answer protocol.Answer, counted int, refusal string, now time.Time, limit int) (event.Event, error) {
	task, outcome := answer.Task, answer.Outcome
	if refusal != "" {
		task.Labels, outcome = nil, keptn.Outcome{}
		if answer.Phase == keptn.Finished {
			outcome = keptn.Errored(RefusalMessage(task, refusal))
		}
	}
	if r.TraceURL != "" {
		outcome.Labels = maps.Clone(outcome.Labels)
		if outcome.Labels == nil {
			outcome.Labels = map[string]string{}
		}
		outcome.Labels["trace"] = strings.ReplaceAll(r.TraceURL, "{traceID}", telemetry.TraceID(task.Context).String())
	}
	outgoing := r.encode(task, answer.Phase, now, outcome, counted)
	size, err := keptn.Size(outgoing)
	if err != nil || size <= limit {
		return outgoing, err
	}
	task, outcome = Fit(task, outcome, size, limit)
	return r.encode(task, answer.Phase, now, outcome, counted), nil
}

func (r *Reporter) encode(task keptn.Task, phase keptn.Phase, now time.Time, outcome keptn.Outcome, counted int) event.Event {
	outgoing := keptn.OneMore(task.Event(phase, now, outcome), counted)
	outgoing.SetSource(r.Source)
	return outgoing
}

// sendTraced sends an event within a span. Only a final error marks the span: others are retried.
func (r *Reporter) sendTraced(ctx context.Context, task keptn.Task, outgoing event.Event) error {
	ctx, span := telemetry.StartSend(ctx, r.Tracer, task, outgoing, telemetry.ToKeptn)
	defer span.End()
	err := r.Sender.Send(ctx, outgoing)
	switch {
	case err == nil:
	case verdictOf(err) == refused:
		telemetry.Fail(span, "refused", err.Error())
	default:
		telemetry.Note(span, "not accepted", err)
	}
	return err
}
