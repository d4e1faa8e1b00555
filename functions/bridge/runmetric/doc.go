// Package runmetric measures runs and waiting events for operators: stuck, slow and failed ones.
package runmetric
