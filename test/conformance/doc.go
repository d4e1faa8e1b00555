// Package conformance has the functions' view of Knative's Broker and Kubernetes' Jobs, as tables that run
// against the real ones (test/e2e) and against those in one process (test/embedded). Any difference fails a
// test.
package conformance
