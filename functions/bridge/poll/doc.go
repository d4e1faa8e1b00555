// Package poll lists open events of Keptn's API at an interval.
package poll
