// Command lint, built as job-executor-lint, finds mistakes in job/config.yaml.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/job-executor/job-executor/functions/lint"
)

func main() {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := lint.Command(version).ExecuteContext(ctx)
	stop()
	switch {
	case errors.Is(err, lint.ErrFound):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "job-executor-lint:", err)
		os.Exit(2) //nolint:mnd // as the help says
	}
}
