// Package watcher turns the completion of a Job into what its run needs next:
// the next Job, or Keptn's finished event with the results and logs of all Jobs.
package watcher
