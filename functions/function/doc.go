// Package function is what every function runs in: configuration from the
// environment, telemetry, CloudEvents over HTTP with bounded bodies, readiness,
// draining on SIGTERM, and the one place that decides which errors Knative
// retries.
package function
