// Package watcher turns what happened to a Job into what its run needs next: the next
// Job, or Keptn's finished event with the results and logs of all Jobs; and it answers
// for a run of which Jobs are missing.
package watcher
