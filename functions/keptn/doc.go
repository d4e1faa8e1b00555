// Package keptn is what Keptn v1 says and understands: its event types, its
// HTTP API as far as an integration needs it, and the reporter that gives Keptn
// exactly one started before exactly one finished event for each task. Facts
// that the API's description leaves out are taken from recordings of a Keptn
// 1.4.5 control plane.
package keptn
