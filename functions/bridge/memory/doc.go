// Package memory holds what the bridge remembers of each task, for one user at a time
// and for a bounded number of tasks.
package memory
