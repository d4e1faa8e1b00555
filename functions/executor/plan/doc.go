// Package plan makes the Jobs of a run from the actions that an event matches, as the
// installation allows it.
package plan
