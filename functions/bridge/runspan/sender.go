package runspan

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
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

// Send returns the sender's error.
func (linked linkedSender) Send(ctx context.Context, outgoing event.Event) error {
	task, _, err := keptn.ParseTask(outgoing)
	var data map[string]any
	if err == nil {
		err = outgoing.DataAs(&data)
	}
	if err == nil {
		labels, _ := data["labels"].(map[string]any)
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]any{}
		}
		labels["trace"] = strings.ReplaceAll(linked.pattern, "{traceID}", tracing.TraceID(task.Context).String())
		data["labels"] = labels
		outgoing = outgoing.Clone()
		err = outgoing.SetData(event.ApplicationJSON, data)
	}
	if err != nil {
		return fmt.Errorf("adding the link to the trace to event %s: %w", outgoing.ID(), err)
	}
	return linked.Sender.Send(ctx, outgoing)
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
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attribute.String("error.type", "refused"))
	default:
		span.AddEvent("not taken", trace.WithAttributes(attribute.String("exception.message", err.Error())))
	}
	return err
}
