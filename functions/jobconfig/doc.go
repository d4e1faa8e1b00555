// Package jobconfig parses and validates job/config.yaml, the file in a Keptn project's Git repository with the
// containers to run for each event. It also matches actions against events. Authors can use it without
// Kubernetes and Keptn.
package jobconfig
