// Package system is Job Executor as it is installed on a cluster, seen from
// outside: it installs it, and reaches Keptn, Jaeger and the Broker through the
// API server, so that it works with any kubeconfig. The end-to-end tests and the
// demo stand on it.
package system
