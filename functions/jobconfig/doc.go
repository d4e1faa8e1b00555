// Package jobconfig is job/config.yaml, the file in a Keptn project's Git
// repository that says which containers run for which events: it parses and
// validates the file and matches its actions against an event. It knows neither
// Kubernetes' nor Keptn's API, so that a person can check a file without either.
package jobconfig
