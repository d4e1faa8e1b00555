// Package result reads what a task reports about itself in its termination message, and merges
// the reports of a run's tasks into one outcome. A report that cannot be understood is a failure.
package result
