// Package run is a run: the Kubernetes Jobs of one triggered event. It knows
// their names, labels and order, how far a run is, and how it reads and changes
// its Jobs on a cluster. The Jobs are the only state there is.
package run
