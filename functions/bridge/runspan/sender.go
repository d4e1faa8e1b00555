package runspan

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/tracing"
)

// Sender gives an event to Keptn.
type Sender interface {
	Send(ctx context.Context, outgoing event.Event) error
}

// WithLink returns a sender that adds a label "trace" with the address of the trace to
// what Keptn is told of a task, which Keptn's page makes a link of. The pattern has
// {traceID} where that stands.
func WithLink(sender Sender, pattern string) Sender {
	if pattern == "" {
		return sender
	}
	return linkedSender{sender, pattern}
}

type linkedSender struct {
	Sender
	pattern string
}

// Send returns the sender's error. What has no labels to add to is sent as it is.
func (linked linkedSender) Send(ctx context.Context, outgoing event.Event) error {
	if task, _, err := keptn.ParseTask(outgoing); err == nil {
		outgoing = linked.add(outgoing, tracing.TraceID(task.Context).String())
	}
	return linked.Sender.Send(ctx, outgoing)
}

// add leaves all other data as it is, to the last digit.
func (linked linkedSender) add(outgoing event.Event, traceID string) event.Event {
	data, labels := map[string]json.RawMessage{}, map[string]string{}
	err := outgoing.DataAs(&data)
	if given, ok := data["labels"]; ok && err == nil {
		err = json.Unmarshal(given, &labels)
	}
	if err != nil {
		return outgoing
	}
	labels["trace"] = strings.ReplaceAll(linked.pattern, "{traceID}", traceID)
	linkedTo := outgoing.Clone()
	if data["labels"], err = json.Marshal(labels); err == nil {
		err = linkedTo.SetData(event.ApplicationJSON, data)
	}
	if err != nil {
		return outgoing
	}
	return linkedTo
}

// WithSpans returns a sender whose every attempt is a span below the context's, or below that
// of the task's run. Only an error that is final marks it.
func WithSpans(sender Sender, tracer trace.Tracer, isFinal func(error) bool) Sender {
	return tracedSender{sender, tracer, isFinal}
}

type tracedSender struct {
	Sender
	tracer  trace.Tracer
	isFinal func(error) bool
}

// Send returns the sender's error.
func (traced tracedSender) Send(ctx context.Context, outgoing event.Event) error {
	task, _, err := keptn.ParseTask(outgoing)
	if err != nil {
		return traced.Sender.Send(ctx, outgoing)
	}
	ctx, span := tracing.StartSend(ctx, traced.tracer, task, outgoing.Type(), tracing.EventAttributes(outgoing)...)
	defer span.End()
	err = traced.Sender.Send(ctx, outgoing)
	switch {
	case err == nil:
	case traced.isFinal(err):
		tracing.Fail(span, "refused", err.Error())
	default:
		tracing.Note(span, "not taken", err)
	}
	return err
}
