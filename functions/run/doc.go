// Package run is a run: the Kubernetes Jobs of one triggered event. It has their names, labels and order, and
// decides what a run needs next. It is free of side effects; package run/store has the Jobs on the cluster.
package run
