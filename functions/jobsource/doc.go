// Package jobsource sends a completion event for each Job that finishes, is deleted or cannot start, and
// resends it until the bridge says that Keptn has the run's result. Then the Jobs are marked and may
// expire. Knative's ApiServerSource does not suffice: it emits nothing for changes during its downtime, and
// drops an event after 1.5 s of failed attempts.
package jobsource
