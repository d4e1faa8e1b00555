// Package embedded is everything around the functions, in one process: a Broker
// that delivers by the Trigger manifests in config/ as Knative does, a Kubernetes
// that runs the containers of Jobs as processes or by a script, and a network that
// has no sockets. The functions in it are the real ones, behind their real HTTP
// handlers. It is the quick way in; the cluster stays the judge, and conformance
// tests in test/e2e hold this to it.
package embedded
