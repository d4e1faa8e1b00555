// Package inward brings Keptn's triggered events to the Broker: over NATS or by polling,
// as far as this integration is subscribed to them, each once, and again as long as
// nobody has answered.
package inward
