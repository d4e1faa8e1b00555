package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Counters count events by their type, and measure how long they take (OpenTelemetry semantic
// conventions 1.37, messaging; what they have no name for begins with job_executor). The
// types are as many as the meters allow, and one for the rest. Nil counts nothing.
type Counters struct {
	received, sent, retried, deadLettered, unproven metric.Int64Counter
	processed                                       metric.Float64Histogram
}

// Seconds are the boundaries of histograms of what should be done in less than a second.
func Seconds() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
}

// NewCounters returns counters. It returns an error if a name is invalid.
func NewCounters(meters metric.MeterProvider) (*Counters, error) {
	meter := meters.Meter("events")
	counter := func(name, description string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithUnit("{event}"), metric.WithDescription(description))
	}
	received, receivedErr := counter("messaging.client.consumed.messages", "Events that were received.")
	sent, sentErr := counter("messaging.client.sent.messages", "Events that were sent, each attempt, replies included.")
	retried, retriedErr := counter("job_executor.events.retried", "Events that were sent once more, since it is not known that they arrived.")
	dead, deadErr := counter("job_executor.events.dead_lettered", "Events that the Broker could not deliver.")
	dropped, droppedErr := counter("job_executor.events.unproven", "Events that were dropped: nothing proves that they come from a function that may send them.")
	processed, processedErr := meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("How long a function was at work on an event."), Seconds())
	return &Counters{received: received, sent: sent, retried: retried, deadLettered: dead, unproven: dropped, processed: processed},
		errors.Join(receivedErr, sentErr, retriedErr, deadErr, droppedErr, processedErr)
}

// Received counts an event that a function was at work on since it began. The type of its
// handler's error is empty if there was none.
func (c *Counters) Received(ctx context.Context, eventType string, began time.Time, errorType string) {
	if c == nil {
		return
	}
	attributes := attributesOf(eventType, errorType)
	c.received.Add(ctx, 1, attributes)
	c.processed.Record(ctx, time.Since(began).Seconds(), attributes)
}

// Sent counts an attempt to send an event, and the type of the error if it failed.
func (c *Counters) Sent(ctx context.Context, eventType, errorType string) {
	if c != nil {
		c.sent.Add(ctx, 1, attributesOf(eventType, errorType))
	}
}

// Retried counts an event that is sent once more by whoever waits for what comes of it.
func (c *Counters) Retried(ctx context.Context, eventType string) {
	if c != nil {
		c.retried.Add(ctx, 1, attributesOf(eventType, ""))
	}
}

// Expect has begin at none what is sent again of a type, its dead letters, and what is dropped.
func (c *Counters) Expect(ctx context.Context, eventType string) {
	if c != nil {
		c.deadLettered.Add(ctx, 0, attributesOf(eventType, ""))
		c.retried.Add(ctx, 0, attributesOf(eventType, ""))
		c.unproven.Add(ctx, 0, unproven())
	}
}

// DeadLettered counts an event that the Broker could not deliver.
func (c *Counters) DeadLettered(ctx context.Context, eventType string) {
	if c != nil {
		c.deadLettered.Add(ctx, 1, attributesOf(eventType, ""))
	}
}

// Unproven counts an event that was dropped, since nothing proves that it comes from a function
// that may send it. Of which type it is, its sender has made up.
func (c *Counters) Unproven(ctx context.Context) {
	if c != nil {
		c.unproven.Add(ctx, 1, unproven())
	}
}

func unproven() metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("messaging.system", "cloudevents")))
}

func attributesOf(eventType, errorType string) metric.MeasurementOption {
	attributes := []attribute.KeyValue{attribute.String("messaging.system", "cloudevents"), attribute.String("cloudevents.event_type", eventType)}
	if errorType != "" {
		attributes = append(attributes, attribute.String("error.type", errorType))
	}
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}
