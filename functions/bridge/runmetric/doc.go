// Package runmetric measures runs and waiting events for operators: what is stuck, what is slow, what fails.
package runmetric
