// Command cluster shows a Keptn sequence that Job Executor answers on the cluster of KUBECONFIG, as it happens,
// and finally the result, the log and the trace.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/demo/scene"
	"github.com/job-executor/job-executor/test/system"
)

const (
	shop         = "http://shop.shop.svc.cluster.local"
	signInterval = time.Minute
	zeroLimit    = 4 * time.Minute
	traceLimit   = 30 * time.Second
	interval     = 200 * time.Millisecond
)

func main() {
	var options scene.Options
	options.AddTo(flag.CommandLine)
	scene.Parse()
	console.Main("demo", func(ctx context.Context) error { return demo(ctx, options) })
}

// showSigns prints a line every minute while the demo compiles and installs, until the context ends.
func showSigns(ctx context.Context, say func(string)) {
	ticker := time.NewTicker(signInterval)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			say(fmt.Sprintf("still compiling and installing, after %s", time.Since(began).Round(time.Second)))
		}
	}
}

func demo(ctx context.Context, options scene.Options) error {
	terminal := console.NewTerminal(os.Stdout)
	played, err := scene.New(options, shop)
	if err != nil {
		return err
	}
	installed, err := system.Connect()
	if err != nil {
		return err
	}
	terminal.Heading("Installing")
	say := func(step string) { terminal.Say("• " + step) }
	// Compiling has no time limit. Waiting for the cluster has its own limits.
	installing, stop := context.WithCancel(ctx)
	defer stop()
	go showSigns(installing, say)
	if err := installed.Install(ctx, say); err != nil {
		return fmt.Errorf("%w\nRun the same command again: it goes on where it was", err)
	}
	stop()
	say("a small web server, to be tested: kubectl apply -f test/demo/cluster/target.yaml")
	if err := installed.Apply(ctx, "test/demo/cluster/target.yaml"); err != nil {
		return err
	}

	if err := createObjects(ctx, installed, options); err != nil {
		return err
	}
	executor, err := subscribe(ctx, installed, played.EventType)
	if err != nil {
		return err
	}

	say("waiting until the functions have scaled to zero, about a minute")
	if err := installed.WaitForZero(ctx, zeroLimit, executor, "watcher"); err != nil {
		return err
	}

	terminal.Heading("A Keptn project")
	project := played.Project + "-" + time.Now().Format("150405")
	terminal.Say("shipyard.yaml:")
	terminal.Indented(played.Shipyard)
	terminal.Say("\njob/config.yaml:")
	terminal.Indented(string(played.Files[jobconfig.Path]))
	if err := installed.CreateProject(ctx, project, played.Shipyard, played.Service, played.Stages, played.Files); err != nil {
		return err
	}

	terminal.Heading("The sequence")
	runCtx, cancelRun := context.WithTimeoutCause(ctx, options.Timeout, fmt.Errorf("the sequence did not end within %s", options.Timeout))
	defer cancelRun()
	terminal.Begin()
	keptnContext, err := installed.Trigger(runCtx, project, played.Stage, played.Sequence, played.Service, played.Data)
	if err != nil {
		return err
	}
	finished, err := follow(runCtx, terminal, installed, executor, project, keptnContext)
	if err != nil {
		return err
	}
	terminal.Heading("The finished event")
	if err := terminal.ShowEvent(*finished); err != nil {
		return err
	}
	if err := showLog(ctx, terminal, installed, keptnContext); err != nil {
		return err
	}
	if err := showTrace(ctx, terminal, installed, keptnContext); err != nil {
		return err
	}
	goOn(terminal, keptnContext)
	if finished.Data.Status != "succeeded" || finished.Data.Result != "pass" {
		return fmt.Errorf("the task ended %s/%s", finished.Data.Status, finished.Data.Result)
	}
	return nil
}

// createObjects creates the Secrets and service accounts of the options. One of the same name is replaced.
func createObjects(ctx context.Context, installed *system.Installation, options scene.Options) error {
	objects, err := options.Objects()
	if err != nil || len(objects) == 0 {
		return err
	}
	list := corev1.List{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}}
	for _, object := range objects {
		list.Items = append(list.Items, runtime.RawExtension{Object: object})
	}
	content, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode the objects for the tasks: %w", err)
	}
	return installed.ApplyContent(ctx, content)
}

// subscribe subscribes to the events of a task, and returns the executor that gets them.
func subscribe(ctx context.Context, installed *system.Installation, eventType string) (executor string, err error) {
	name, _, _ := keptn.ParseType(eventType)
	executor = "executor-" + name
	known, err := installed.Kubectl(ctx, "get", "services.serving.knative.dev", "--namespace", system.Namespace, executor, "--ignore-not-found", "--output=name")
	if err != nil || known != "" {
		return executor, err
	}
	return "executor-custom", installed.Subscribe(ctx, "job-executor", eventType)
}

// follow prints each event, Job and scaling until the sequence is over. It returns our finished event.
func follow(ctx context.Context, terminal *console.Terminal, installed *system.Installation, executor, project, keptnContext string) (*console.Event, error) {
	follower := &console.Follower{Terminal: terminal, Keptn: installed.Keptn, Project: project, Context: keptnContext, Interval: interval}
	pods := map[string]int{}
	follower.Look = func(ctx context.Context, events []console.Event) error {
		for _, event := range events {
			showEvent(follower, event)
		}
		for _, function := range []string{executor, "watcher"} {
			count, err := installed.Pods(ctx, function)
			if err != nil {
				return err
			}
			if before, known := pods[function]; !known || before != count {
				pods[function] = count
				terminal.Line("Knative", "", fmt.Sprintf("%s has %d pods", function, count))
			}
		}
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err != nil {
			return err
		}
		follower.Jobs(jobs)
		return nil
	}
	finished, err := follower.Follow(ctx)
	if err == nil && finished == nil {
		err = errors.New("the sequence is over without a finished event of ours")
	}
	return finished, err
}

func showEvent(follower *console.Follower, event console.Event) {
	what := event.Type
	if event.Data.Status != "" {
		what += "  " + event.Data.Status + "/" + event.Data.Result
	}
	from := event.Source
	if from == "shipyard-controller" {
		from = "Keptn"
	}
	follower.Once("event "+event.ID, from, what)
}

func showLog(ctx context.Context, terminal *console.Terminal, installed *system.Installation, keptnContext string) error {
	jobs, err := installed.Jobs(ctx, keptnContext)
	if err != nil {
		return err
	}
	for index := range jobs {
		terminal.Heading("The log of Job " + jobs[index].Name)
		log, err := installed.Log(ctx, &jobs[index])
		if err != nil {
			return err
		}
		terminal.Indented(log)
	}
	return nil
}

// showTrace reads the trace from Jaeger as soon as it is complete: exporters have a delay.
func showTrace(ctx context.Context, terminal *console.Terminal, installed *system.Installation, keptnContext string) error {
	terminal.Heading("The trace, whose id is the Keptn context (Knative's inner spans left out)")
	traceID := console.TraceID(keptnContext)
	var spans []console.Span
	err := console.Eventually(ctx, traceLimit, func(ctx context.Context) error {
		var err error
		if spans, err = installed.Trace(ctx, traceID); err != nil {
			return err
		}
		spans = jaeger.OfOurs(spans)
		if !console.HasEnded(spans) {
			return errors.New("spans are missing")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read trace %s: %w", traceID, err)
	}
	terminal.Say(jaeger.Tree(spans, jaeger.IsOurs))
	terminal.Say(fmt.Sprintf("%d spans in all.", len(spans)))
	return nil
}

func goOn(terminal *console.Terminal, keptnContext string) {
	terminal.Heading("How to go on")
	for _, line := range [][2]string{
		{"the Jobs of this sequence", "kubectl get jobs,pods -n job-executor-jobs -l keptn.sh/context=" + keptnContext},
		{"what was installed", "kubectl get ksvc,triggers,pods -n job-executor"},
		{"the functions' logs", "kubectl logs -n job-executor deployment/bridge"},
		{"the whole trace", "kubectl get --raw /api/v1/namespaces/observability/services/http:jaeger:16686/proxy/api/traces/" + console.TraceID(keptnContext)},
		{"Jaeger, inside the cluster", "http://jaeger.observability.svc.cluster.local:16686"},
	} {
		terminal.Say(fmt.Sprintf("%-28s %s", line[0], line[1]))
	}
	if os.Getenv("JOB_EXECUTOR_TEST_CLUSTER") != "" {
		terminal.Say("\nThe cluster is in a network of its own: put   go -C test/cluster run . exec   before each kubectl.")
		terminal.Say("It goes away, and leaves nothing behind, with   make cluster-down")
	}
}
