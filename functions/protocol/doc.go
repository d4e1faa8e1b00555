// Package protocol has the events between functions: notices about runs, and the answers from which
// the bridge makes Keptn's events.
package protocol
