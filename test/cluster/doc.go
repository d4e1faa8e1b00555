// Command cluster brings a real one-node Kubernetes with Knative up on a bare
// Debian machine, and down again. Everything is compiled from the Go module
// proxy or installed by apt, and runs in a network namespace without a route
// out: nothing in it can reach another machine. With KUBECONFIG set it builds
// nothing and leaves that cluster as it is.
package main
