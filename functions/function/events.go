package function

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Events counts events by their type, and measures how long they take (OpenTelemetry semantic
// conventions 1.37, messaging; what they have no name for begins with job_executor). The
// types that are not known are as many as Telemetry allows, and one for the rest. Nil counts
// nothing.
type Events struct {
	received, sent, retried, deadLettered metric.Int64Counter
	processed                             metric.Float64Histogram
}

// Seconds are the boundaries of histograms of what should be done in less than a second.
func Seconds() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
}

// NewEvents returns counters of events. Its error is that a name is not valid.
func NewEvents(meters metric.MeterProvider) (*Events, error) {
	meter := meters.Meter("function")
	counter := func(name, description string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithUnit("{event}"), metric.WithDescription(description))
	}
	received, receivedErr := counter("messaging.client.consumed.messages", "Events that were received.")
	sent, sentErr := counter("messaging.client.sent.messages", "Events that were sent, each attempt, replies included.")
	retried, retriedErr := counter("job_executor.events.retried", "Events that were sent once more, since it is not known that they arrived.")
	dead, deadErr := counter("job_executor.events.dead_lettered", "Events that the Broker could not deliver.")
	processed, processedErr := meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("How long a function was at work on an event."), Seconds())
	return &Events{received: received, sent: sent, retried: retried, deadLettered: dead, processed: processed},
		errors.Join(receivedErr, sentErr, retriedErr, deadErr, processedErr)
}

// Received counts an event that a function was at work on since it began. The error is that
// of its handler.
func (events *Events) Received(ctx context.Context, eventType string, began time.Time, err error) {
	if events == nil {
		return
	}
	attributes := attributesOf(eventType, err)
	events.received.Add(ctx, 1, attributes)
	events.processed.Record(ctx, time.Since(began).Seconds(), attributes)
}

// Sent counts an attempt to send an event, and with what error it failed, if it did.
func (events *Events) Sent(ctx context.Context, eventType string, err error) {
	if events != nil {
		events.sent.Add(ctx, 1, attributesOf(eventType, err))
	}
}

// Retried counts an event that is sent once more by whoever waits for what comes of it.
func (events *Events) Retried(ctx context.Context, eventType string) {
	if events != nil {
		events.retried.Add(ctx, 1, attributesOf(eventType, nil))
	}
}

// Expect has the dead letters of a type begin at none.
func (events *Events) Expect(ctx context.Context, eventType string) {
	if events != nil {
		events.deadLettered.Add(ctx, 0, attributesOf(eventType, nil))
	}
}

// DeadLettered counts an event that the Broker could not deliver.
func (events *Events) DeadLettered(ctx context.Context, eventType string) {
	if events != nil {
		events.deadLettered.Add(ctx, 1, attributesOf(eventType, nil))
	}
}

func attributesOf(eventType string, err error) metric.MeasurementOption {
	attributes := []attribute.KeyValue{attribute.String("messaging.system", "cloudevents"), attribute.String("cloudevents.event_type", eventType)}
	switch {
	case err == nil:
	case IsPermanent(err):
		attributes = append(attributes, attribute.String("error.type", "permanent"))
	default:
		attributes = append(attributes, attribute.String("error.type", "retriable"))
	}
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}
