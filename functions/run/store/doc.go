// Package store reads and changes the Jobs of runs on a cluster, and reads their pods and logs. Every change
// can be repeated without effect.
package store
