// Command fetcher is the init container that puts a task's files below /keptn.
package main

import (
	"context"
	"net/http"

	"github.com/job-executor/job-executor/functions/fetcher"
	"github.com/job-executor/job-executor/functions/function"
)

func main() {
	function.Once("fetcher", func(ctx context.Context, configuration fetcher.Configuration, telemetry *function.Telemetry) error {
		return fetcher.Run(ctx, configuration, telemetry, http.DefaultTransport)
	})
}
