// Package jobspan writes the spans of Jobs that have ended, which nobody else can: Kubernetes
// emits none.
package jobspan
