// Command demo shows a Keptn sequence that Job Executor answers, in this process, within seconds and without a
// cluster: containers of Jobs are processes of this machine. With --config it runs your own job/config.yaml.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/demo/loadtest"
	"github.com/job-executor/job-executor/test/demo/scene"
	"github.com/job-executor/job-executor/test/embedded"
)

const (
	interval    = 50 * time.Millisecond
	locustImage = "docker.io/locustio/locust"
	// settleLimit bounds the wait for the last spans.
	settleLimit = 5 * time.Second
)

type options struct {
	scene.Options

	settings scene.List
	verbose  bool
}

func main() {
	var o options
	o.AddTo(flag.CommandLine)
	flag.Var(&o.settings, "setting", "a setting of the installation, as ALLOWED_IMAGES=docker.io/*; may be repeated")
	flag.BoolVar(&o.verbose, "verbose", false, "show what the functions log, too")
	scene.Parse()
	console.Main("demo", func(ctx context.Context) error { return show(ctx, o) })
}

func show(ctx context.Context, o options) error {
	terminal := console.NewTerminal(os.Stdout)
	directory, err := os.MkdirTemp("", "job-executor-demo-")
	if err != nil {
		return fmt.Errorf("create a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(directory) }()
	shop, closeShop, err := serveShop(ctx)
	if err != nil {
		return err
	}
	defer closeShop()
	played, err := scene.New(o.Options, shop)
	if err != nil {
		return err
	}
	handler := slog.DiscardHandler
	if o.verbose {
		handler = slog.NewTextHandler(os.Stderr, nil)
	}
	programs := map[string]embedded.Program{}
	if _, err := exec.LookPath("locust"); err != nil {
		programs[locustImage] = func(ctx context.Context, container embedded.Container) int {
			return loadtest.Run(ctx, slices.Concat(container.Command, container.Arguments), container.Output)
		}
	}
	settings, err := scene.Pairs(o.settings)
	if err != nil {
		return fmt.Errorf("--setting: %w", err)
	}
	if err := checkSettings(settings); err != nil {
		return fmt.Errorf("--setting: %w", err)
	}
	objects, err := o.Objects()
	if err != nil {
		return err
	}
	reported := make(chan struct{})
	reportedOnce := sync.OnceFunc(func() { close(reported) })
	system, err := embedded.Start(ctx, embedded.Options{
		Directory: directory, Manifests: "config", Programs: programs, Log: handler, Settings: settings, Objects: objects,
		Observe: func(delivery embedded.Delivery) {
			showDelivery(terminal, delivery)
			if delivery.Event.Type() == protocol.ReportedType {
				reportedOnce()
			}
		},
	})
	if err != nil {
		return err
	}
	defer system.Close(ctx)

	terminal.Heading("A Keptn project, and everything around it, in this process")
	terminal.Say("job/config.yaml:")
	terminal.Indented(string(played.Files["job/config.yaml"]))
	keptn := console.Keptn{Call: system.Call}
	if err := keptn.CreateProject(ctx, played.Project, played.Shipyard, played.Service, played.Stages, played.Files); err != nil {
		return err
	}
	terminal.Heading("The sequence: each event as the Broker delivers it")
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the sequence did not end within %s", o.Timeout))
	defer cancel()
	terminal.Begin()
	keptnContext, err := keptn.Trigger(ctx, played.Project, played.Stage, played.Sequence, played.Service, played.Data)
	if err != nil {
		return err
	}
	finished, jobs, err := follow(ctx, terminal, system, keptn, played.Project, keptnContext)
	if err != nil {
		return err
	}
	select { // the last event belongs above the next heading
	case <-reported:
	case <-time.After(settleLimit):
	}
	return showResult(ctx, terminal, system, finished, jobs, keptnContext)
}

// serveShop serves the target of the example's load test.
func serveShop(ctx context.Context) (address string, closeShop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(writer, "<h1>A small shop</h1>\n")
	})}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// showDelivery shows one event on its way.
func showDelivery(terminal *console.Terminal, delivery embedded.Delivery) {
	from := delivery.Event.Source()
	switch {
	case from == "shipyard-controller":
		from = "Keptn"
	case strings.HasPrefix(from, "/apis/"):
		from = "jobsource"
	case from == "job-executor":
		from = "Broker"
	case strings.HasPrefix(from, "job-executor-"):
		from = "bridge"
	}
	to := delivery.Trigger
	switch to {
	case "keptn":
		to = "bridge → Keptn"
	case "reported":
		to = "jobsource"
	}
	what := delivery.Event.Type()
	switch {
	case delivery.Err != nil:
		what += "  failed: " + delivery.Err.Error()
	case delivery.Reply != nil:
		what += "  ⇒ " + delivery.Reply.Type()
	}
	terminal.Line(from, to, what)
}

// follow shows the Jobs until Keptn says that the sequence is over. It returns our last finished event, and the
// Jobs.
func follow(ctx context.Context, terminal *console.Terminal, system *embedded.System, keptn console.Keptn, project, keptnContext string) (*console.Event, []batchv1.Job, error) {
	var jobs []batchv1.Job
	follower := &console.Follower{Terminal: terminal, Keptn: keptn, Project: project, Context: keptnContext, Interval: interval}
	frame := 0
	follower.Look = func(ctx context.Context, events []console.Event) error {
		if why, err := nothingRun(ctx, keptn, events); err != nil {
			return err
		} else if why != "" {
			return errors.New(why)
		}
		list, err := system.Cluster.Client(nil).BatchV1().Jobs("").List(ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			return fmt.Errorf("list Jobs: %w", err)
		}
		jobs = list.Items
		status := "waiting for an event"
		if running := follower.Jobs(jobs); running != "" {
			status = running + " is running"
		}
		terminal.Status(string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[frame/2%10]) + " " + status) //nolint:mnd // ten frames
		frame++
		return nil
	}
	finished, err := follower.Follow(ctx)
	return finished, jobs, err
}

// nothingRun returns why nothing runs for a task, from Keptn's log; empty if the log does not say so.
func nothingRun(ctx context.Context, keptn console.Keptn, events []console.Event) (string, error) {
	var ids []string
	for _, event := range events {
		ids = append(ids, event.ID)
	}
	logged, err := keptn.ErrorsOf(ctx, ids...)
	if err != nil {
		return "", err
	}
	for _, message := range logged {
		if strings.HasPrefix(message, "Nothing is run ") {
			return message, nil
		}
	}
	return "", nil
}

// checkSettings refuses a setting that nothing reads.
func checkSettings(settings map[string]string) error {
	known := map[string]bool{}
	for _, configuration := range []reflect.Type{
		reflect.TypeFor[bridge.Configuration](), reflect.TypeFor[executor.Configuration](), reflect.TypeFor[jobsource.Configuration](),
		reflect.TypeFor[watcher.Configuration](),
	} {
		variablesOf(configuration, known)
	}
	for name := range settings {
		if !known[name] {
			return fmt.Errorf("there is no setting %s; the README lists them", name)
		}
	}
	return nil
}

// variablesOf adds the variables that the fields of a configuration name.
func variablesOf(configuration reflect.Type, known map[string]bool) {
	for index := range configuration.NumField() {
		field := configuration.Field(index)
		if variable, _, _ := strings.Cut(field.Tag.Get("env"), ","); variable != "" {
			known[variable] = true
		} else if field.Type.Kind() == reflect.Struct {
			variablesOf(field.Type, known)
		}
	}
}

func showResult(ctx context.Context, terminal *console.Terminal, system *embedded.System, finished *console.Event, jobs []batchv1.Job, keptnContext string) error {
	if finished == nil {
		return errors.New("the sequence ended without a finished event of Job Executor")
	}
	terminal.Heading("The finished event, as Keptn has it")
	if err := terminal.ShowEvent(*finished); err != nil {
		return err
	}
	terminal.Heading("Jobs")
	terminal.Say(table(jobs))
	terminal.Heading("The message in Keptn, with the log")
	terminal.Indented(finished.Data.Message)
	terminal.Heading("The trace, whose id is the Keptn context " + keptnContext)
	terminal.Say(jaeger.Tree(spans(ctx, system, console.TraceID(keptnContext)), jaeger.IsOurs))
	if finished.Data.Status != "succeeded" {
		return fmt.Errorf("the task ended %s/%s", finished.Data.Status, finished.Data.Result)
	}
	return nil
}

// table returns the output of kubectl get jobs.
func table(jobs []batchv1.Job) string {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0) //nolint:mnd // spaces
	_, _ = fmt.Fprintln(columns, "NAME\tACTION\tTASK\tSTATUS\tDURATION")
	for index := range jobs {
		job := &jobs[index]
		duration := "-"
		if ended := run.FinishedAt(job); !ended.IsZero() && job.Status.StartTime != nil {
			duration = ended.Sub(job.Status.StartTime.Time).String()
		}
		_, _ = fmt.Fprintf(columns, "%s\t%s\t%s\t%s\t%s\n", job.Name, job.Annotations[run.ActionNameAnnotation], job.Annotations[run.TaskNameAnnotation], run.PhaseOf(job), duration)
	}
	_ = columns.Flush()
	return strings.TrimRight(text.String(), "\n")
}

// spans returns the spans of a trace once its root has ended, which is the last one.
func spans(ctx context.Context, system *embedded.System, traceID string) []console.Span {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		found := system.Trace(traceID)
		if console.HasEnded(found) || ctx.Err() != nil {
			return found
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}
