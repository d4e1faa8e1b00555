// Package memory stores a bounded number of values by key until they were not used for an hour, on request each for one user at a time.
package memory
