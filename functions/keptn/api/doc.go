// Package api is a client of Keptn's HTTP API. Of the functions, only the bridge may import it, because it holds Keptn's secrets.
// Facts beyond the API's description come from recordings of Keptn 1.4.5 (test/keptn/testdata).
package api
