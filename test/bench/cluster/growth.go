package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	growth "github.com/job-executor/job-executor/test/bench"
)

const (
	// fewTriggers and maxTriggers are the smallest and largest measured numbers of Triggers.
	fewTriggers = 5
	maxTriggers = 40
	// hellosEach is the number of events for each Broker.
	hellosEach = 200
)

// triggers measures how the number of Triggers affects the latency of an event, and the CPU of the filter and of
// its sender. One of the Triggers matches.
func (b *bench) triggers(ctx context.Context) error {
	directory, err := os.MkdirTemp("", "triggers")
	if err != nil {
		return fmt.Errorf("create a directory for Triggers: %w", err)
	}
	defer func() { _ = os.RemoveAll(directory) }()
	path := filepath.Join(directory, "triggers.yaml")
	var sizes, costs []float64
	for size := fewTriggers; size <= maxTriggers; size *= 2 {
		if err := os.WriteFile(path, []byte(idleTriggers(size-1)), 0o600); err != nil {
			return fmt.Errorf("write Triggers: %w", err)
		}
		if err := b.installed.Apply(ctx, path); err != nil {
			return err
		}
		if err := b.installed.AwaitReady(ctx, "bench", "triggers"); err != nil {
			return err
		}
		if _, err := b.hello(ctx); err != nil { // it warms it
			return err
		}
		used, err := usage()
		if err != nil {
			return err
		}
		var took []float64
		for range hellosEach {
			one, err := b.hello(ctx)
			if err != nil {
				return err
			}
			took = append(took, one)
		}
		after, err := usage()
		if err != nil {
			return err
		}
		b.report.add(fmt.Sprintf("hello, warm, among %d Triggers", size), "ms", helloWarm, took...)
		programs := after.byProgram(used)
		cost := programs["filter"] + programs["channel_dispatc"]
		sizes, costs = append(sizes, float64(size)), append(costs, cost)
		b.report.add(fmt.Sprintf("CPU of the Broker per event, among %d Triggers", size), "ms", "", cost*1000/hellosEach)
	}
	b.report.add("CPU of the Broker, by how many Triggers there are", exponent, "", growth.Exponent(sizes, costs))
	return b.installed.Remove(ctx, path)
}

// exponent is the unit of growth.
const exponent = "exponent"

// idleTriggers creates Triggers that match no event of hello's Broker.
func idleTriggers(count int) string {
	var manifests []string
	for index := range count {
		manifests = append(manifests, fmt.Sprintf(`apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: idle-%d, namespace: bench}
spec:
  broker: bench
  filters: [{exact: {type: bench.idle-%d}}]
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: hello}}
`, index, index))
	}
	return strings.Join(manifests, "---\n")
}
