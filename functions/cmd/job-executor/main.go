// Command job-executor lists, explains and repeats runs, and checks job/config.yaml.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/job-executor/job-executor/functions/cli"
	"github.com/job-executor/job-executor/functions/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	command := cli.New(cli.Surroundings{
		IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		Name:      os.Args[0], Version: telemetry.Version(), Now: time.Now, Getenv: os.Getenv, Connect: cli.Connect, Transport: http.DefaultTransport, Open: open,
	})
	err := command.ExecuteContext(ctx)
	stop()
	if err != nil && !cli.IsSilent(err) && !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, "job-executor:", err)
	}
	os.Exit(cli.ExitCode(err))
}

// open shows an address in the user's browser.
func open(ctx context.Context, address string) error {
	program, arguments := "xdg-open", []string{address}
	switch runtime.GOOS {
	case "darwin":
		program = "open"
	case "windows":
		program, arguments = "rundll32", []string{"url.dll,FileProtocolHandler", address}
	}
	if err := exec.CommandContext(ctx, program, arguments...).Run(); err != nil { //nolint:gosec // the address of the user's Jaeger
		return fmt.Errorf("open %s: %w", address, err)
	}
	return nil
}
