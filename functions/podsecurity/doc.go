// Package podsecurity evaluates Kubernetes' pod security levels without an API server, for the linter and the
// embedded cluster.
package podsecurity
