// Package jobsource sends a completion event for each Job that finishes, is deleted or cannot start, and
// resends it until the bridge says that Keptn has the run's result. It then marks the Jobs, which may
// expire. Knative's ApiServerSource cannot replace it: it emits nothing for changes during its downtime, and
// drops an event that it cannot send for 1.5 s.
package jobsource
