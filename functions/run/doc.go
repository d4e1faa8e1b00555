// Package run is a run: the Kubernetes Jobs of one triggered event. It has their names, labels and order,
// decides what a run needs next, and reads and changes its Jobs. The Jobs are the only state.
package run
