// Package e2e holds the end-to-end tests: Job Executor as a user installs it, on
// a real cluster. They have the build tag e2e, since they need one: make e2e.
package e2e
