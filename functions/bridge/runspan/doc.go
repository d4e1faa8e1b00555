// Package runspan writes the spans of tasks' runs and of sequences, which are the roots of
// their traces, and tells Keptn's page where a trace can be seen.
package runspan
