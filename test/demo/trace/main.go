// Command trace prints the trace of a Keptn context, with or without its dashes, from the
// Jaeger of the cluster that KUBECONFIG names.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

func main() {
	console.Main("trace", func(ctx context.Context) error { return show(ctx, os.Args[1:]) })
}

func show(ctx context.Context, arguments []string) error {
	if len(arguments) != 1 || arguments[0] == "" {
		return errors.New("name a Keptn context, as make trace CONTEXT=4ed578f6-1e1e-4a11-9b2e-9a7111760f5b")
	}
	installed, err := system.Connect()
	if err != nil {
		return err
	}
	all, err := installed.Trace(ctx, console.TraceID(arguments[0]))
	if err != nil {
		return fmt.Errorf("read the trace of %s: %w", arguments[0], err)
	}
	spans := console.OfOurs(all)
	terminal := console.NewTerminal(os.Stdout)
	terminal.Say(console.Tree(spans, console.IsOurs))
	terminal.Say(fmt.Sprintf("%d spans, and %d of Knative and others.", len(spans), len(all)-len(spans)))
	if !console.IsWhole(spans) {
		terminal.Say("Some parents are missing: the sequence has not ended, or its functions have not exported their spans yet.")
	}
	return nil
}
