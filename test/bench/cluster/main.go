package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

const (
	installLimit = 20 * time.Minute
	stepLimit    = 15 * time.Minute
	zeroLimit    = 4 * time.Minute
	stage        = "bench"
	sequence     = "pipeline"
	task         = "test"
	// jobSinkEvents is small, since JobSink creates few Jobs a second.
	jobSinkEvents = 50
)

// sizes are the sizes of the measurements.
type sizes struct{ cold, unguarded, warm, burst, caughtUp, tiny int }

func main() { console.Main("bench", benchmark) }

func benchmark(ctx context.Context) error {
	var size sizes
	flag.IntVar(&size.cold, "cold", 1, "tasks whose functions start from zero")
	flag.IntVar(&size.unguarded, "unguarded", 0, "the same without NetworkPolicies")
	flag.IntVar(&size.warm, "warm", 12, "tasks one after the other")
	flag.IntVar(&size.burst, "burst", 300, "tasks at once, whose Jobs wait")
	flag.IntVar(&size.caughtUp, "caught-up", 200, "tasks that come while the bridge is away, whose Jobs wait")
	flag.IntVar(&size.tiny, "tiny", 16, "tasks at once, whose Jobs run")
	stored := flag.String("stored", "test/bench/cluster/stored.json", "the report that ratios are compared to")
	written := flag.String("write", "", "where to write this report")
	only := flag.String("only", "", "measure only the steps whose names match a regular expression")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	steps := stepsOf(size, wanted)
	if len(steps) == 0 {
		return fmt.Errorf("--only: no step's name matches %q", wanted)
	}
	installed, err := system.Connect()
	if err != nil {
		return err
	}
	bench, err := prepare(ctx, installed)
	if err != nil {
		return err
	}
	err = bench.measure(ctx, steps)
	fmt.Println()
	err = errors.Join(err, bench.report.write(os.Stdout))
	fmt.Println()
	if err := errors.Join(err, bench.report.writeGoals(os.Stdout)); err != nil {
		return err
	}
	if *written != "" {
		content, err := json.Marshal(bench.report)
		if err == nil {
			content = bytes.ReplaceAll(content, []byte(`{"name":`), []byte("\n"+`{"name":`)) // a line each
			err = os.WriteFile(*written, append(content, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if steep := bench.report.tooSteep(); len(steep) > 0 {
		return errors.New(strings.Join(steep, "\n"))
	}
	earlier, err := read(*stored)
	if err != nil || earlier == nil {
		return err
	}
	if worse := bench.report.compare(earlier); len(worse) > 0 {
		return fmt.Errorf("worse than on %s:\n%s", earlier.Date.Format(time.DateOnly), strings.Join(worse, "\n"))
	}
	return nil
}

// A step is one measurement.
type step struct {
	name string
	run  func(b *bench, ctx context.Context) error
}

// stepsOf returns the steps with matching names.
func stepsOf(size sizes, wanted *regexp.Regexp) []step {
	inState := func(count int, s state) step {
		return step{fmt.Sprintf("%d times %s", count, s), func(b *bench, ctx context.Context) error { return b.latencies(ctx, count, s) }}
	}
	steps := []step{{"images", (*bench).images}, inState(size.cold, fromZero)}
	if size.unguarded > 0 {
		steps = append(steps, inState(size.unguarded, fromZeroUnguarded))
	}
	steps = append(steps,
		step{"start to ready", (*bench).starts},
		inState(size.warm, warm),
		inState(size.warm/3, overHTTP),
		step{fmt.Sprintf("%d tasks at once, whose Jobs run", size.tiny), func(b *bench, ctx context.Context) error {
			return b.tiny(ctx, size.tiny)
		}},
		step{"tasks that wait", (*bench).waiting},
		step{fmt.Sprintf("Brokers of up to %d Triggers", maxTriggers), (*bench).triggers},
		step{fmt.Sprintf("%d events for Knative's JobSink", jobSinkEvents), func(b *bench, ctx context.Context) error {
			return b.jobSink(ctx, jobSinkEvents)
		}},
		step{fmt.Sprintf("%d tasks at once, and %d while the bridge is away, whose Jobs wait", size.burst, size.caughtUp), func(b *bench, ctx context.Context) error {
			return b.bursts(ctx, size.burst, size.caughtUp)
		}},
		step{"nothing", (*bench).idle},
	)
	return slices.DeleteFunc(steps, func(s step) bool { return !wanted.MatchString(s.name) })
}

// measure measures step by step.
func (b *bench) measure(ctx context.Context, steps []step) error {
	var loads []float64
	for _, step := range steps {
		began := time.Now()
		fmt.Printf("bench: %s\n", step.name)
		limited, cancel := context.WithTimeout(ctx, stepLimit)
		err := step.run(b, limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("bench:   took %s\n", time.Since(began).Round(time.Second))
		load, err := load()
		if err != nil {
			return err
		}
		loads = append(loads, load)
	}
	b.report.add("load average of a minute, after each step", "1", "", loads...)
	return nil
}

// afterwards restores a setting, even after the time limit, so that the cluster does not change. It joins the
// errors.
func afterwards(ctx context.Context, err *error, undo func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepLimit)
	defer cancel()
	*err = errors.Join(*err, undo(ctx))
}

// bench is the shared state of the steps.
type bench struct {
	installed *system.Installation
	moments   *moments
	report    *report
	project   string
	broker    string
	services  int
	// functions is the namespace of the functions; namespace and selector are those of the Jobs.
	functions, namespace, selector string
}

// configuration runs a container that does nothing, in a form that the job-executor-service can read, too.
const configuration = `apiVersion: v2
actions:
  - name: Bench
    events: [{name: sh.keptn.event.` + task + `.triggered}, {name: sh.keptn.event.` + formerTask + `.triggered}]
    tasks: [{name: Bench, image: busybox, cmd: ["true"]}]
`

// prepare installs everything and creates a project.
func prepare(ctx context.Context, installed *system.Installation) (*bench, error) {
	installing, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	if err := installed.Install(installing, func(step string) { fmt.Println("bench:", step) }); err != nil {
		return nil, err
	}
	fmt.Println("bench: a function that does nothing: ko apply -f test/bench/cluster/hello.yaml")
	// Create the Broker again: Knative's authentication may have left settings in an old one that reject
	// events.
	if err := installed.Remove(installing, "test/bench/cluster/hello.yaml"); err != nil {
		return nil, err
	}
	if err := installed.BuildAndApply(installing, "test/bench/cluster/hello.yaml"); err != nil {
		return nil, err
	}
	if err := installed.AwaitReady(installing, "bench", "services.serving.knative.dev,brokers,triggers"); err != nil {
		return nil, err
	}
	if err := installed.CallKeptnDirectly(ctx); err != nil {
		return nil, err
	}
	address, err := installed.ServiceAddress(ctx, "knative-eventing", "broker-ingress")
	if err != nil {
		return nil, err
	}
	seen, err := watchAll(ctx, installed)
	if err != nil {
		return nil, err
	}
	project := fmt.Sprintf("bench-%d", time.Now().Unix())
	if err := installed.CreateProject(ctx, project, console.Shipyard(stage, task), "service-0", []string{stage}, files()); err != nil {
		return nil, err
	}
	return &bench{
		installed: installed, moments: seen, project: project, broker: "http://" + address + "/bench/bench", services: 1,
		functions: system.Namespace, namespace: system.JobsNamespace, selector: run.Selector,
		report: &report{Date: time.Now().UTC(), Machine: fmt.Sprintf("%d cores, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)},
	}, nil
}

func files() map[string][]byte { return map[string][]byte{"job/config.yaml": []byte(configuration)} }
