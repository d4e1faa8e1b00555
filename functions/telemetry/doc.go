// Package telemetry has a function's logs, traces and metrics: their setup, their attributes, and how a
// trace passes through events.
package telemetry
