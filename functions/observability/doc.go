// Package observability reads the ConfigMap config-observability, as Knative's components have
// it: where spans and metrics go.
package observability
