// Package console plays a user of Keptn and Job Executor in a terminal: sequences, events, Jobs and traces. The
// demos and the end-to-end tests use it.
package console
