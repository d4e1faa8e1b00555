// Package keptn has Keptn v1's event types and attributes, its tasks and their outcomes, and what Keptn counts
// for them. It makes no calls.
package keptn
