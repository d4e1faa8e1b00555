// Command fetcher is the init container that puts a task's files below /keptn.
package main

import (
	"context"
	"net/http"

	"github.com/job-executor/job-executor/functions/fetcher"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
)

func main() {
	function.Once("fetcher", func(ctx context.Context, configuration fetcher.Configuration, signals *telemetry.Signals) error {
		return fetcher.Run(ctx, configuration, signals, http.DefaultTransport)
	})
}
