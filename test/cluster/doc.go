// Command cluster starts a real one-node Kubernetes with Knative on a bare Debian machine, and stops it. It
// compiles everything from the Go module proxy or installs it by apt. The cluster runs in a network namespace
// without a route out, so it cannot reach other machines. If KUBECONFIG is set, it builds nothing and uses that
// cluster.
package main
