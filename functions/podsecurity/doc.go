// Package podsecurity says what the pod security of a namespace would not let in, by
// Kubernetes' own rules, where there is no API server to ask: for the linter and the
// embedded cluster.
package podsecurity
