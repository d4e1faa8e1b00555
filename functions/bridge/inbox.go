package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// Sender gives an event to the Broker; it returns nil only after the Broker's 2xx.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// Origin is how the bridge came by an event.
type Origin int

const (
	// Published by Keptn just now: it is dispatched.
	Published Origin = iota
	// Listed as open: it may be started already, or not be dispatched yet.
	Listed
)

// Inbox takes triggered events from Keptn to the Broker, each once, and again
// after a while if nobody started it.
type Inbox struct {
	broker        Sender
	counter       keptn.Counter
	subscriptions *Subscriptions
	active        *Active
	resend        time.Duration
	tracer        trace.Tracer
	now           func() time.Time
	log           *slog.Logger
	taken         *keptn.Memory[taken]
}

// rememberedEvents bounds the memory; an event that fell out is asked for again.
const rememberedEvents = 10000

// maxResends doubles the time between two resends until it is some hours.
const maxResends = 8

type taken struct {
	sent      int
	nextCheck time.Time
}

// NewInbox returns an inbox that sends an event again after the given time, then
// after twice that and so on, if nobody started it.
func NewInbox(broker Sender, counter keptn.Counter, subscriptions *Subscriptions, active *Active, resend time.Duration, tracer trace.Tracer, now func() time.Time, log *slog.Logger) *Inbox {
	return &Inbox{
		broker: broker, counter: counter, subscriptions: subscriptions, active: active, resend: resend, tracer: tracer, now: now, log: log,
		taken: keptn.NewMemory[taken](rememberedEvents),
	}
}

// Take gives an event to the Broker, unless it has been, or is none of ours. An
// error means that it has to be offered again.
func (inbox *Inbox) Take(ctx context.Context, triggered event.Event, origin Origin) error {
	task, err := keptn.TaskOf(triggered)
	if err != nil {
		inbox.log.DebugContext(ctx, "not a task's event, ignored", "type", triggered.Type(), "error", err)
		return nil
	}
	if _, phase, _ := keptn.ParseType(triggered.Type()); phase != keptn.Triggered || !inbox.subscriptions.Match(triggered.Type(), task) {
		return nil
	}
	entry, release, err := inbox.taken.Hold(ctx, triggered.ID())
	if err != nil {
		return err
	}
	defer release()
	if entry.sent > 0 && origin == Published || inbox.now().Before(entry.nextCheck) {
		return nil
	}
	if origin == Listed {
		count, err := inbox.counter.Count(ctx, task)
		if err != nil {
			return fmt.Errorf("asking Keptn about task %s: %w", task.TriggeredID, err)
		}
		if !inbox.isWanted(task, count, entry) {
			return nil
		}
	}
	if err := inbox.send(ctx, task, triggered); err != nil {
		return err
	}
	entry.nextCheck = inbox.now().Add(inbox.resend << min(entry.sent, maxResends))
	entry.sent++
	return nil
}

// orphanChecks is after how many resend times a task is looked at again that was
// started by us, but of which no run has been seen.
const orphanChecks = 2

// isWanted says whether a listed event has to be sent, from what Keptn counted.
func (inbox *Inbox) isWanted(task keptn.Task, count keptn.Count, entry *taken) bool {
	switch {
	case count.Standing == keptn.Pending:
		return false // its sequence is paused, or it is not dispatched yet
	case count.Standing == keptn.Current && count.Started > 0 && count.Finished == 0 && entry.sent == 0 && !inbox.active.HasRun(task):
		// It runs since before this process began: then jobsource names its run soon.
		// Or it does not: the bridge died after it sent the started event of a task
		// that no executor could take, and before the finished one. Then an executor
		// has to be asked again, or the task would stay open for ever.
		inbox.active.Add(task, false)
		if entry.nextCheck.IsZero() {
			entry.nextCheck = inbox.now().Add(orphanChecks * inbox.resend)
			return false
		}
		return true
	case count.Standing == keptn.Over, count.Taken:
		entry.sent = max(entry.sent, 1)
		entry.nextCheck = inbox.now().Add(inbox.resend << maxResends)
		return false
	default:
		return true
	}
}

func (inbox *Inbox) send(ctx context.Context, task keptn.Task, triggered event.Event) error {
	ctx, span := inbox.tracer.Start(function.ContextWithTraceID(ctx, task.Context), "bridge "+triggered.Type(),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			attribute.String("cloudevents.event_id", triggered.ID()),
			attribute.String("cloudevents.event_type", triggered.Type()),
			attribute.String("keptn.context", task.Context),
			attribute.String("keptn.project", task.Project),
			attribute.String("keptn.stage", task.Stage),
			attribute.String("keptn.service", task.Service)))
	defer span.End()
	outgoing := triggered.Clone()
	for name, value := range task.Attributes() {
		outgoing.SetExtension(name, value)
	}
	if err := inbox.broker.Send(ctx, outgoing); err != nil {
		span.SetStatus(codes.Error, "the Broker did not take the event")
		return fmt.Errorf("giving event %s to the Broker: %w", triggered.ID(), err)
	}
	inbox.log.InfoContext(ctx, "event taken from Keptn", "type", triggered.Type(), "id", triggered.ID(),
		"keptncontext", task.Context, "project", task.Project, "stage", task.Stage, "service", task.Service)
	return nil
}
