// Package cluster is how functions reach their Kubernetes cluster.
package cluster
