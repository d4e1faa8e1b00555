// Package watcher decides what a run needs next after a Job has changed: the next Job, or Keptn's finished
// event with the results and logs of all Jobs. It also answers for runs with missing Jobs.
package watcher
