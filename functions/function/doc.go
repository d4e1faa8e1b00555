// Package function is the frame of every function: configuration, telemetry, CloudEvents over HTTP with bounded
// bodies, readiness, draining on SIGTERM, and the one place that decides which errors Knative retries.
package function
