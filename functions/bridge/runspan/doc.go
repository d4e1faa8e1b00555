// Package runspan writes the spans of ended sequences, tasks and Jobs, each once.
package runspan
