// Package jobphase tells how long the phases of Jobs took: the watcher knows it, and the bridge,
// which is always there to be asked, is told with a run's result.
package jobphase
