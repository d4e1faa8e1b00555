// Package runs tracks the runs whose results Keptn waits for, and cancels those whose sequence was
// aborted.
package runs
