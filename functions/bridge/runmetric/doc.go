// Package runmetric measures tasks' runs, and what waits, for who watches an installation: is
// anything stuck, what is slow, what fails.
package runmetric
