// Package conformance states what the functions see of Knative's Broker and of
// Kubernetes' Jobs, as tables that run against the real ones (test/e2e) and
// against those in one process (test/embedded). What differs there fails here.
package conformance
