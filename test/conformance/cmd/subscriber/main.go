// Command subscriber runs the subscriber of the Broker's conformance test in a pod.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/job-executor/job-executor/test/conformance"
)

func main() {
	const headerTimeout = 10 * time.Second
	server := &http.Server{Addr: ":8080", Handler: conformance.NewSubscriber(), ReadHeaderTimeout: headerTimeout}
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "subscriber:", err)
		os.Exit(1)
	}
}
