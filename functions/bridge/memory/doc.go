// Package memory stores a bounded number of values by key, and forgets those that nobody has used for an hour. A Memory lends each
// value to one user at a time.
package memory
