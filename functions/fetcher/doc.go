// Package fetcher writes a task's files below /keptn before its container starts. It gets them from the bridge
// with the Job's grant.
package fetcher
