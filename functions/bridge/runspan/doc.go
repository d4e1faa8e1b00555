// Package runspan writes the spans of runs and sequences, the roots of their traces.
package runspan
