// Package api calls Keptn's HTTP API as far as an integration needs it. It holds Keptn's
// secrets, so only the bridge may import it. Facts that the API's description leaves out
// are taken from recordings of a Keptn 1.4.5 control plane (test/keptn/testdata).
package api
