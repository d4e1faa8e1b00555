// Package runspan writes the spans of sequences, tasks and Jobs, each once and when it is over.
package runspan
