// Package jobconfig parses and validates job/config.yaml, the file in a Keptn project's Git repository that
// defines which containers run for which events, and matches its actions against an event. It depends neither
// on Kubernetes' nor on Keptn's API, so that authors can check a file without them.
package jobconfig
