package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Inbox publishes triggered events to the Broker, each once, and again while Keptn has no started event of
// ours. It also asks for the result of a run after too long a silence.
type Inbox struct {
	Broker        protocol.Sender
	Counter       keptn.Counter
	Reporter      keptn.Starter
	Subscriptions *Subscriptions
	Runs          Runs
	Metrics       Metrics
	Source        string
	// OwnExecutors are the tasks with an executor of their own.
	OwnExecutors []string
	// Page is the address of Keptn's page, empty if unknown.
	Page string
	// Fail answers a task with an error if its event can never be published.
	Fail func(ctx context.Context, task keptn.Task, why string) error
	// Resend is the pause before an event that nobody started is published again.
	Resend time.Duration
	Tracer trace.Tracer
	Now    func() time.Time
	Log    *slog.Logger

	// events is the memory of events. An evicted event is looked up in Keptn again.
	events memory.Memory[remembered]
	// breaker stops publishing while the Broker cannot be reached.
	breaker function.Breaker
}

// theBroker is the only key of the breaker.
const theBroker = "broker"

// Metrics measure waiting events, as runmetric.Recorder does.
type Metrics interface {
	// Waits records whether a listed task must still be started.
	Waits(task keptn.Task, waits bool)
	// Republished counts a republished event.
	Republished(ctx context.Context, eventType string)
}

// Runs knows the active runs, as runs.Runs does.
type Runs interface {
	IsThere(task keptn.Task) bool
}

const (
	// maxDoublings bounds how often a pause doubles.
	maxDoublings = 8
	// firstCheck and lastCheck bound the pause before an event is checked again that Keptn has not dispatched.
	firstCheck = 200 * time.Millisecond
	lastCheck  = 30 * time.Second
	// patientQuestions is how often the result of a run is requested before unreadable Jobs count as deleted.
	patientQuestions = 3
	// silence is how long a run may be silent before its result is requested.
	silence = 2 * time.Minute
)

// remembered is the memory of an event.
type remembered struct {
	// sent counts publications, checks those before Keptn dispatched the event, and asked the requests of its
	// result.
	sent, checks, asked int
	// silentSince is when Keptn started to wait for the result of a silent run.
	silentSince time.Time
	nextCheck   time.Time
	// failures is how often in a row publishing, or asking Keptn, failed.
	failures uint64
}

const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// Backoff returns the pause after a number of failures in a row, at least one.
func Backoff(failures uint64) time.Duration {
	const maxDoublings = 6
	return min(firstBackoff<<min(failures-1, maxDoublings), lastBackoff)
}

// Publish publishes an event to the Broker. It skips published and unsubscribed events, and wraps events that
// trigger no task. After an error the event must be offered again.
func (i *Inbox) Publish(ctx context.Context, triggered event.Event, origin Origin) error {
	task, err := keptn.ParseEvent(triggered)
	if err != nil {
		i.Log.DebugContext(ctx, "ignoring event: nothing can run for it", "type", triggered.Type(), "error", err)
		return nil
	}
	if !i.Subscriptions.Match(triggered.Type(), task) {
		return nil
	}
	if i.Page != "" {
		task.URL = i.Page + "/trace/" + url.PathEscape(task.Context)
	}
	entry, release, err := i.events.Hold(ctx, triggered.ID())
	if err != nil {
		return err
	}
	defer release()
	if entry.failures > 0 && i.Now().Before(entry.nextCheck) || i.breaker.IsShut(theBroker) {
		return fmt.Errorf("event %s: %w", triggered.ID(), function.ErrBackoff)
	}
	err = i.publish(ctx, task, triggered, origin, entry)
	switch {
	case err == nil:
		entry.failures = 0
	case !errors.Is(err, function.ErrBackoff):
		entry.failures++
		entry.nextCheck = i.Now().Add(Backoff(entry.failures))
	}
	return err
}

func (i *Inbox) publish(ctx context.Context, task keptn.Task, triggered event.Event, origin Origin, entry *remembered) error {
	if task.Observed {
		if entry.sent > 0 {
			return nil
		}
		return i.do(ctx, publishNow, task, keptn.Observed(triggered), entry)
	}
	// A published event is dispatched, whatever was planned when it was listed.
	if origin == Published && entry.sent > 0 || origin == Listed && i.Now().Before(entry.nextCheck) {
		return nil
	}
	wanted := publishNow
	if origin == Listed {
		count, err := i.Counter.Count(ctx, task)
		if err != nil {
			return err
		}
		started, err := i.Reporter.HasStarted(ctx, task)
		if err != nil {
			return err
		}
		wanted = answer(count, started, i.Runs.IsThere(task), *entry, i.Now())
		i.Metrics.Waits(task, wanted == publishNow)
	}
	return i.do(ctx, wanted, task, triggered, entry)
}

// wanted is what a listed event needs.
type wanted int

const (
	// leave the event for a long time: its task is over.
	leave wanted = iota
	// checkSoon, because Keptn has not dispatched it.
	checkSoon
	// keep the event: its run exists, or others work on it.
	keep
	// awaitRun, because the run should be announced soon.
	awaitRun
	// requestResult, because the run was silent for too long.
	requestResult
	// publishNow, to the Broker.
	publishNow
)

// answer returns what a listed event needs, given Keptn's counts, whether its started event was sent, whether
// its run exists, and the memory of the event. Answers of other integrations do not matter.
func answer(count keptn.Count, started, isThere bool, entry remembered, now time.Time) wanted {
	switch {
	case count.Over():
		return leave
	case count.Standing != keptn.Current:
		return checkSoon
	case isThere:
		return keep
	case count.Started == 0 && !started:
		return publishNow
	case count.Started > 0 && count.Finished >= count.Started:
		return keep
	case entry.silentSince.IsZero() || now.Sub(entry.silentSince) < silence:
		return awaitRun
	default:
		return requestResult
	}
}

func (i *Inbox) do(ctx context.Context, need wanted, task keptn.Task, triggered event.Event, entry *remembered) error {
	now := i.Now()
	if need != awaitRun && need != requestResult {
		entry.silentSince = time.Time{}
	}
	switch need {
	case leave:
		entry.sent = max(entry.sent, 1)
		entry.nextCheck = now.Add(i.Resend << maxDoublings)
	case checkSoon:
		entry.nextCheck = now.Add(min(firstCheck<<min(entry.checks, maxDoublings), lastCheck))
		entry.checks++
	case keep:
		entry.nextCheck = now.Add(i.Resend)
	case awaitRun:
		if entry.silentSince.IsZero() {
			entry.silentSince = now
		}
		entry.nextCheck = now.Add(min(i.Resend, silence))
	case requestResult:
		reason := ""
		if entry.asked >= patientQuestions {
			reason = "Job Executor cannot find the Jobs of this task. They were deleted, or their namespace cannot be read. Run the sequence again."
		}
		if err := i.Ask(ctx, task, reason); err != nil {
			return err
		}
		entry.nextCheck = now.Add(i.Resend << min(entry.asked, 3))
		entry.asked++
	case publishNow:
		if entry.sent > 0 {
			i.Metrics.Republished(ctx, triggered.Type())
		}
		err := i.send(ctx, task, triggered)
		if function.IsPermanent(err) {
			err = i.fail(ctx, task, err)
		}
		if err != nil {
			return err
		}
		entry.nextCheck = i.Now().Add(i.Resend << min(entry.sent, maxDoublings))
		entry.sent++
	}
	return nil
}

// Ask requests the result of a task's run from the watcher. Reason is why there may be no Job.
func (i *Inbox) Ask(ctx context.Context, task keptn.Task, reason string) error {
	content, err := json.Marshal(task)
	if err != nil {
		return fmt.Errorf("encode task %s: %w", task.TriggeredID, err)
	}
	awaited := protocol.Awaited(i.Source, run.ID(task.TriggeredID), content, reason, i.Now())
	ctx, span := telemetry.StartSend(ctx, i.Tracer, task, awaited, telemetry.ToBroker)
	defer span.End()
	i.Log.WarnContext(ctx, "requesting the result of a silent run", "triggeredid", task.TriggeredID, "keptncontext", task.Context, "reason", reason)
	if err := i.Broker.Send(ctx, awaited); err != nil {
		return fmt.Errorf("request the result of task %s: %w", task.TriggeredID, err)
	}
	return nil
}

// fail answers a task whose event can never be published.
func (i *Inbox) fail(ctx context.Context, task keptn.Task, why error) error {
	i.Log.WarnContext(ctx, "event can never be published", "triggeredid", task.TriggeredID, "keptncontext", task.Context, "error", why)
	if task.Observed {
		return nil
	}
	return i.Fail(ctx, task, fmt.Sprintf("Job Executor cannot run this task: %s. Rename it and run the sequence again.", why))
}

// checkAttributes returns a permanent error if a name cannot be an attribute of an event, which is sent as a
// header.
func checkAttributes(task keptn.Task) error {
	for what, value := range map[string]string{"project": task.Project, "stage": task.Stage, "service": task.Service, "task": task.Name} {
		if !httpguts.ValidHeaderFieldValue(value) {
			return function.Permanent(fmt.Errorf("the name of its %s contains a control character: %q", what, value))
		}
	}
	return nil
}

// ForTriggers returns a task's event with the attributes by which Triggers filter, given the tasks with an executor of
// their own.
func ForTriggers(triggered event.Event, task keptn.Task, ownExecutors []string) event.Event {
	outgoing := triggered.Clone()
	for name, value := range task.Attributes() {
		outgoing.SetExtension(name, value)
	}
	if !task.Observed && !slices.Contains(ownExecutors, task.Name) {
		outgoing.SetExtension(protocol.ReceiverExtension, protocol.ReceiverCustom)
	}
	return outgoing
}

func (i *Inbox) send(ctx context.Context, task keptn.Task, triggered event.Event) (err error) {
	if err := checkAttributes(task); err != nil {
		return err
	}
	if !i.breaker.Enter(theBroker) {
		return fmt.Errorf("publish event %s: the Broker cannot be reached: %w", triggered.ID(), function.ErrBackoff)
	}
	defer func() {
		_, unreached := errors.AsType[*url.Error](err)
		i.breaker.Leave(theBroker, !unreached)
	}()
	ctx, span := telemetry.StartSend(ctx, i.Tracer, task, triggered, telemetry.ToBroker)
	defer span.End()
	if err := i.Broker.Send(ctx, ForTriggers(triggered, task, i.OwnExecutors)); err != nil {
		telemetry.Note(span, "not accepted; retrying", err)
		return fmt.Errorf("publish event %s: %w", triggered.ID(), err)
	}
	i.Log.InfoContext(ctx, "event published", "type", triggered.Type(), "id", triggered.ID(),
		"keptncontext", task.Context, "project", task.Project, "stage", task.Stage, "service", task.Service)
	return nil
}
