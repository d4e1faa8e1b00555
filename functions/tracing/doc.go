// Package tracing is how the spans of a delivery hang together: the trace id is the Keptn
// context, and the ids of those spans that others must know before they exist, or that may
// be written twice, are derived from what they are about.
package tracing
