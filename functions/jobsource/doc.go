// Package jobsource sends one completion event for each Job that finishes, and
// notes on the Job that it did only after the Broker took the event. Knative's
// ApiServerSource does not do that: it emits nothing for what changed while it
// was down, and drops what it fails to send for 1.5 s.
package jobsource
