// Package api is a client of Keptn's HTTP API. The bridge is the only function that may import it, because it holds Keptn's secrets.
// Facts beyond the API's description come from recordings of Keptn 1.4.5 (test/keptn/testdata).
package api
