// Package jobspan writes the spans of ended Jobs from Kubernetes' timestamps, because Kubernetes itself writes
// none.
package jobspan
