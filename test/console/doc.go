// Package console does and shows what a user of Keptn and Job Executor does and sees in a terminal: sequences,
// events, Jobs and traces. The demos and the end-to-end tests use it.
package console
