// Package cluster accesses the Kubernetes cluster of a function.
package cluster
