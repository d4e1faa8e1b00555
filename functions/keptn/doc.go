// Package keptn is what Keptn v1 says and understands: its event types and their
// attributes, tasks, how they end, and what Keptn counts of them. It calls nobody.
package keptn
