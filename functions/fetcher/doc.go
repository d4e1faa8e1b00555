// Package fetcher puts the files that a task names below /keptn, before the
// task's container starts. It asks the bridge for them with the grant that its
// Job was given.
package fetcher
