package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Counters count events by type and measure their processing (OpenTelemetry semantic conventions, messaging;
// other names start with job_executor). The SDK bounds the number of types. A nil pointer counts
// nothing.
type Counters struct {
	received, sent, retried, deadLettered, unproven metric.Int64Counter
	processed                                       metric.Float64Histogram
}

// Seconds returns histogram boundaries for operations that usually take less than a second.
func Seconds() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
}

// NewCounters returns counters. It returns an error if a name is invalid.
func NewCounters(meters metric.MeterProvider) (*Counters, error) {
	meter := meters.Meter("events")
	counter := func(name, unit, description string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	}
	received, receivedErr := counter("messaging.client.consumed.messages", "{message}", "Received events.")
	sent, sentErr := counter("messaging.client.sent.messages", "{message}", "Attempts to send an event, including replies.")
	retried, retriedErr := counter("job_executor.events.retried", "{event}", "Events that were resent because it is unknown whether they arrived.")
	dead, deadErr := counter("job_executor.events.dead_lettered", "{event}", "Events that the Broker could not deliver.")
	dropped, droppedErr := counter("job_executor.events.unproven", "{event}", "Events that were dropped because their signature is missing or invalid.")
	processed, processedErr := meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of processing an event."), Seconds())
	return &Counters{received: received, sent: sent, retried: retried, deadLettered: dead, unproven: dropped, processed: processed},
		errors.Join(receivedErr, sentErr, retriedErr, deadErr, droppedErr, processedErr)
}

// Received counts a received event and measures its processing since it began. The error type is empty on
// success.
func (c *Counters) Received(ctx context.Context, eventType string, began time.Time, errorType string) {
	if c == nil {
		return
	}
	attributes := attributesOf(eventType, errorType, semconv.MessagingOperationName("process"))
	c.received.Add(ctx, 1, attributes)
	c.processed.Record(ctx, time.Since(began).Seconds(), attributes)
}

// Sent counts an attempt to send an event. The error type is empty on success.
func (c *Counters) Sent(ctx context.Context, eventType, errorType string) {
	if c != nil {
		c.sent.Add(ctx, 1, attributesOf(eventType, errorType, semconv.MessagingOperationName("send")))
	}
}

// Retried counts a resent event.
func (c *Counters) Retried(ctx context.Context, eventType string) {
	if c != nil {
		c.retried.Add(ctx, 1, attributesOf(eventType, ""))
	}
}

// Expect starts the rare counters of a type at 0, so that the first increase is visible.
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

// Unproven counts an event that was dropped because its signature is missing or invalid. Its type is not
// recorded: the sender chose it.
func (c *Counters) Unproven(ctx context.Context) {
	if c != nil {
		c.unproven.Add(ctx, 1, unproven())
	}
}

func unproven() metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(semconv.MessagingSystemKey.String(MessagingSystem)))
}

func attributesOf(eventType, errorType string, more ...attribute.KeyValue) metric.MeasurementOption {
	attributes := append(more, semconv.MessagingSystemKey.String(MessagingSystem), semconv.CloudEventsEventType(eventType))
	if errorType != "" {
		attributes = append(attributes, semconv.ErrorTypeKey.String(errorType))
	}
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}
