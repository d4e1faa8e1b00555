// Package embedded runs everything around the functions in one process: a Broker that delivers by the Trigger
// manifests in config/ like Knative, a Kubernetes that runs the containers of Jobs as processes or by a script,
// and a network without sockets. The functions are the real ones behind their real HTTP handlers. It is fast;
// conformance tests in test/e2e compare it with a real cluster.
package embedded
