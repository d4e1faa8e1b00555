// Package console is what a user of Keptn and Job Executor does and sees: sequences,
// events, Jobs and traces, as they are shown in a terminal. Both demos and the
// end-to-end tests stand on it.
package console
