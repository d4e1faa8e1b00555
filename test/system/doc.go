// Package system is an installation of Job Executor on a cluster. It installs the product, and reaches Keptn,
// Jaeger and the Broker through the API server, so that it works with any kubeconfig. The end-to-end tests and
// the demo use it.
package system
