// Package result is what a task says of itself by its termination message, which becomes a
// part of its finished event.
package result
