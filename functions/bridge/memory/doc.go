// Package memory stores a bounded number of values by key, each for one user at a time.
package memory
