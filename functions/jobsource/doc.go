// Package jobsource sends a completion event for each Job that finishes, is deleted,
// or can't start, and sends it again until the bridge has said that Keptn has the
// run's result; it notes that on the Jobs, which may expire then. Knative's
// ApiServerSource does not do that: it emits nothing for what changed while it was
// down, and drops what it fails to send for 1.5 s.
package jobsource
