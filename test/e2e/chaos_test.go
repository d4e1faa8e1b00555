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
	"github.com/job-executor/job-executor/test/system"
	"github.com/job-executor/job-executor/test/user"
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
	// sequenceInterval is the time between two sequences, of two tasks each.
	sequenceInterval = 3 * time.Second
	// countingLag is the longest that Keptn counts late; what it has not counted after
	// the KEPTN_LOSS_TIMEOUT that UseTransport sets is sent again.
	countingLag = 15 * time.Second
)

// TestChaos runs sequences while everything is killed, stopped or late, in an order that
// a seed decides; each task ends once and truly. `make chaos` runs it for longer.
func TestChaos(t *testing.T) {
	installed := connect(t)
	length := time.Duration(chaosSetting(t, "CHAOS_MINUTES", 0.5) * float64(time.Minute))
	seed := uint64(chaosSetting(t, "CHAOS_SEED", 1))
	overEachTransport(t, installed, func(t *testing.T, transport string) {
		t.Helper()
		chaos(t, installed, rand.New(rand.NewPCG(seed, uint64(len(transport)))), length)
	})
}

const chaosConfig = `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: prepare, image: busybox, cmd: [sleep, "1"]}
      - {name: deploy, image: busybox, cmd: [sleep, "2"]}
  - name: Test
    events: [{name: sh.keptn.event.test.triggered}]
    tasks: [{name: test, image: busybox, cmd: [sleep, "2"], files: [job/config.yaml]}]
`

func chaos(t *testing.T, installed *system.System, random *rand.Rand, length time.Duration) {
	t.Helper()
	before, err := installed.SetFaults(t.Context(), countingLag, 0)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	faults := make(chan int, 1)
	go func() { faults <- harm(ctx, t, installed, random) }()
	type sequence struct{ project, keptnContext string }
	var sequences []sequence
	ticker := time.NewTicker(sequenceInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		project, keptnContext := begin(t, installed, []string{"deployment", "test"}, map[string]string{"job/config.yaml": chaosConfig})
		sequences = append(sequences, sequence{project, keptnContext})
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	number := <-faults
	healed := time.Now()
	_, err = installed.SetFaults(t.Context(), 0, 0)
	must(t, err)
	for _, sequence := range sequences {
		stageState, events := end(t, installed, sequence.project, sequence.keptnContext)
		compare(t, "stage", "succeeded", stageState)
		compare(t, "events of "+sequence.keptnContext, []summary{
			{Type: "deployment.started"}, {"deployment.finished", "succeeded", "pass"}, {Type: "test.started"}, {"test.finished", "succeeded", "pass"},
		}, summaries(events))
	}
	last := time.Since(healed)
	after, err := installed.SetFaults(t.Context(), 0, 0)
	must(t, err)
	must(t, user.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace).List(ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			return err
		}
		for index := range jobs.Items {
			if !run.IsReported(&jobs.Items[index]) {
				return fmt.Errorf("Job %s is not reported", jobs.Items[index].Name)
			}
		}
		return nil
	}))
	tasks := 2 * len(sequences)
	t.Logf("%d tasks, %d faults; all had ended %s after the last fault; %.1f requests to Keptn per task", tasks, number, last.Round(time.Second), float64(after-before)/float64(tasks))
}

// harm kills, stops and delays until the context ends, and returns how often. What it
// does it prints.
func harm(ctx context.Context, t *testing.T, installed *system.System, random *rand.Rand) (number int) {
	t.Helper()
	kill := func(namespace, selector string) func(context.Context) error {
		return func(ctx context.Context) error {
			return installed.Kubernetes.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: selector})
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
