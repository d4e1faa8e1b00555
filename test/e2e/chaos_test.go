//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// chaosSetting reads a number from the environment.
func chaosSetting(t *testing.T, name string, otherwise float64) float64 {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.Fatalf("environment variable %s: %v", name, err)
	}
	return number
}

const (
	// countingLag is the longest that Keptn counts late; what it has not counted after
	// lossTimeout is sent again.
	countingLag = 30 * time.Second
	lossTimeout = time.Minute
	// chaosLimit is the time in which all has to have ended. Most of it goes into starting
	// pods: three of each sequence, one or two a second.
	chaosLimit = time.Hour
)

// TestChaos runs sequences, all at once, while everything is killed, stopped or late, in an
// order that a seed decides; each task ends once and truly. `make chaos` runs more of them,
// for longer.
func TestChaos(t *testing.T) {
	installed := connect(t)
	length := time.Duration(chaosSetting(t, "CHAOS_MINUTES", 1.5) * float64(time.Minute))
	sequences := int(chaosSetting(t, "CHAOS_SEQUENCES", 30))
	seed := uint64(chaosSetting(t, "CHAOS_SEED", 1))
	// So many pods at once take long to start on one node.
	setStartDeadline(t, installed, chaosLimit)
	overEachTransport(t, installed, lossTimeout, func(t *testing.T, transport string) {
		t.Helper()
		chaos(t, installed, rand.New(rand.NewPCG(seed, uint64(len(transport)))), sequences, length)
	})
}

const chaosConfig = `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: prepare, image: busybox, cmd: [sleep, "1"], maxPollDuration: 3600}
      - {name: deploy, image: busybox, cmd: [sleep, "2"], maxPollDuration: 3600}
  - name: Test
    events: [{name: sh.keptn.event.test.triggered}]
    tasks: [{name: test, image: busybox, cmd: [sleep, "2"], files: [job/config.yaml], maxPollDuration: 3600}]
`

func chaos(t *testing.T, installed *system.Installation, random *rand.Rand, sequences int, length time.Duration) {
	t.Helper()
	// A project of its own has each: Keptn runs one sequence of a service at a time.
	projects := make([]string, sequences)
	for index := range projects {
		projects[index] = createProject(t, installed, []string{"deployment", "test"}, map[string]string{"job/config.yaml": chaosConfig})
	}
	before, err := installed.SetFaults(t.Context(), countingLag, 0)
	must(t, err)
	began := time.Now()
	keptnContexts := make([]string, sequences)
	for index, project := range projects {
		keptnContexts[index] = trigger(t, installed, project)
	}
	t.Logf("%d sequences were triggered within %s", sequences, time.Since(began).Round(time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	faults := harm(ctx, t, installed, random)
	t.Logf("the last of %d faults is over after %s", faults, time.Since(began).Round(time.Second))
	over := time.Now()
	_, err = installed.SetFaults(t.Context(), 0, 0)
	must(t, err)
	limit, cancel := context.WithTimeout(t.Context(), chaosLimit)
	defer cancel()
	for index, project := range projects {
		stageState, events := endWithin(limit, t, installed, project, keptnContexts[index])
		compare(t, "stage", "succeeded", stageState)
		compare(t, "events of "+keptnContexts[index], []summary{
			{Type: "deployment.started"}, {"deployment.finished", "succeeded", "pass"}, {Type: "test.started"}, {"test.finished", "succeeded", "pass"},
		}, summaries(events))
	}
	last := time.Since(over)
	after, err := installed.SetFaults(t.Context(), 0, 0)
	must(t, err)
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace).List(ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			return err
		}
		for index := range jobs.Items {
			if job := &jobs.Items[index]; run.IsActive(job) || !run.IsReported(job) || job.Spec.TTLSecondsAfterFinished == nil {
				return fmt.Errorf("Job %s is left: it is %s, or not reported, or does not expire", job.Name, run.PhaseOf(job))
			}
		}
		return nil
	}))
	tasks := 2 * sequences
	t.Logf(
		"%d tasks, %d faults; all had ended %s after the last fault; %.1f requests to Keptn per task",
		tasks,
		faults,
		last.Round(time.Second),
		float64(after-before)/float64(tasks),
	)
}

// harm kills, stops and delays until the context ends, and returns how often. What it
// does it prints.
func harm(ctx context.Context, t *testing.T, installed *system.Installation, random *rand.Rand) (number int) {
	t.Helper()
	kill := func(namespace, selector string) func(context.Context) error {
		return func(ctx context.Context) error {
			return installed.Kubernetes.CoreV1().
				Pods(namespace).
				DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: selector})
		}
	}
	faults := []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"the bridge is killed", kill(system.Namespace, "app.kubernetes.io/name=bridge")},
		{"jobsource is killed", kill(system.Namespace, "app.kubernetes.io/name=jobsource")},
		{"the watcher is killed", kill(system.Namespace, "serving.knative.dev/service=watcher")},
		{"the executors are killed", kill(system.Namespace, "serving.knative.dev/service in (executor-deployment,executor-test)")},
		{"the Broker's ingress is killed", kill("knative-eventing", "eventing.knative.dev/brokerRole=ingress")},
		{"the Broker's filter is killed", kill("knative-eventing", "eventing.knative.dev/brokerRole=filter")},
		{"the Broker's channel is killed", kill("knative-eventing", "messaging.knative.dev/channel=in-memory-channel,messaging.knative.dev/role=dispatcher")},
		{"Keptn is away for 8 s", func(ctx context.Context) error {
			_, err := installed.SetFaults(ctx, countingLag, 8*time.Second)
			return err
		}},
		{"the API server is stopped for 5 s", func(ctx context.Context) error {
			if output, err := exec.CommandContext(ctx, "go", "run", "../cluster", "pause", "kube-apiserver", "5s").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, output)
			}
			return nil
		}},
	}
	for {
		pause := 3*time.Second + time.Duration(random.Int64N(int64(6*time.Second)))
		select {
		case <-ctx.Done():
			return number
		case <-time.After(pause):
		}
		fault := faults[random.IntN(len(faults))]
		t.Logf("%s: %s", time.Now().Format(time.TimeOnly), fault.name)
		// It ends by itself: it must not be left half done.
		err := fault.do(context.WithoutCancel(ctx))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Logf("%s: %v", fault.name, err)
		}
		number++
	}
}
