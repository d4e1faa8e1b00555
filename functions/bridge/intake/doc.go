// Package intake publishes Keptn's triggered events to the Broker: those that the integration is subscribed
// to, each once, and again while nobody answers.
package intake
