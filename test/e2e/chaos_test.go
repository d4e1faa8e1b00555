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
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// countingLag is the longest delay of Keptn's counting. Uncounted events are resent after lossTimeout.
	countingLag = 30 * time.Second
	lossTimeout = time.Minute
	// chaosLimit bounds the time until everything has ended. Most of that time is needed to start pods: three per
	// sequence, one or two a second.
	chaosLimit = time.Hour
)

// TestChaos runs many sequences at once. Meanwhile everything is killed, stopped or late, in an order that a seed
// decides. Each task must end exactly once, with its true result. `make chaos` runs more sequences for longer.
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

// The tasks of chaosConfig, in their order: some attempts fail by chance, a task reports a result, a
// task prints the value of a Secret, and a task provides SLIs.
const chaosConfig = `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - name: prepare
        image: busybox
        cmd: [sh, -c, "case $(hostname) in *[2456789]) echo again; exit 1;; esac"]
        retries: 10
        maxPollDuration: 3600
      - name: deploy
        image: busybox
        cmd: [sh, -c, 'sleep 2; echo "{\"result\": \"warning\", \"message\": \"one pod is slow\"}" > /dev/termination-log']
        maxPollDuration: 3600
  - name: Test
    events: [{name: sh.keptn.event.test.triggered}]
    tasks:
      - name: test
        image: busybox
        cmd: [sh, -c, 'sleep 2; echo "it is $KEY"']
        env: [{name: ` + chaosSecret + `, valueFrom: secret}]
        files: [job/config.yaml]
        maxPollDuration: 3600
  - name: Indicators
    events: [{name: sh.keptn.event.get-sli.triggered}]
    tasks:
      - name: indicators
        image: busybox
        cmd: [sh, -c, 'echo "{\"get-sli\": {\"indicatorValues\": [{\"metric\": \"errors\", \"value\": 1, \"success\": true}]}}" > /dev/termination-log']
        maxPollDuration: 3600
`

const (
	chaosSLO = "objectives: [{sli: errors, pass: [{criteria: ['<=1']}]}]\ntotal_score: {pass: '90%'}\n"
	// chaosSecret is the rotated Secret, and chaosValue the beginning of all its values.
	chaosSecret, chaosValue = "chaos", "the-value-in-chaos-"
	// evaluatedEach is the number of sequences for each one with an evaluation.
	evaluatedEach = 4
)

// rotate changes the Secret's value.
func rotate(ctx context.Context, installed *system.Installation) error {
	secrets := installed.Kubernetes.CoreV1().Secrets(system.JobsNamespace)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: chaosSecret, Labels: map[string]string{"job-executor.github.io/allowed": "true"}},
		StringData: map[string]string{"KEY": chaosValue + time.Now().Format(time.RFC3339)},
	}
	_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

// createRotated creates the Secret for the duration of a test.
func createRotated(t *testing.T, installed *system.Installation) {
	t.Helper()
	must(t, rotate(t.Context(), installed))
	afterTest(t, func(ctx context.Context) error {
		err := installed.Kubernetes.CoreV1().Secrets(system.JobsNamespace).Delete(ctx, chaosSecret, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

func chaos(t *testing.T, installed *system.Installation, random *rand.Rand, sequences int, length time.Duration) {
	t.Helper()
	// Each sequence has its own project: Keptn runs one sequence of a service at a time.
	projects := make([]string, sequences)
	createRotated(t, installed)
	// The kubelet becomes slow with a thousand ended pods.
	afterTest(t, func(ctx context.Context) error {
		return console.Eventually(ctx, runLimit, func(ctx context.Context) error { // the API server may time out
			background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
			return installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace).DeleteCollection(ctx, background, metav1.ListOptions{LabelSelector: run.Selector})
		})
	})
	for index := range projects {
		tasks := []string{"deployment", "test"}
		if index%evaluatedEach == 0 {
			tasks = append(tasks, "evaluation")
		}
		projects[index] = createProject(t, installed, tasks, map[string]string{"job/config.yaml": chaosConfig, "slo.yaml": chaosSLO})
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
	tasks, again, withheld := 2*sequences, 0, 0
	for index, project := range projects {
		stageState, events := endWithin(limit, t, installed, project, keptnContexts[index])
		compare(t, "stage", "succeeded", stageState)
		want := []summary{
			{Type: "deployment.started"}, {"deployment.finished", "succeeded", "warning"}, {Type: "test.started"}, {"test.finished", "succeeded", "pass"},
		}
		if index%evaluatedEach == 0 {
			want = append(want, summary{Type: "get-sli.started"}, summary{"get-sli.finished", "succeeded", "pass"})
			tasks++
		}
		compare(t, "events of "+keptnContexts[index], want, summaries(events))
		for _, event := range events {
			if strings.Contains(event.Data.Message, chaosValue) {
				t.Errorf("%s has the value of a Secret: %s", event.Type, event.Data.Message)
			}
			again += strings.Count(event.Data.Message, "\nagain\n")
			withheld += strings.Count(event.Data.Message, "are withheld")
		}
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
	t.Logf(
		"%d tasks, %d attempts that failed, %d logs withheld, %d faults; all had ended %s after the last fault; %.1f requests to Keptn per task",
		tasks,
		again,
		withheld,
		faults,
		last.Round(time.Second),
		float64(after-before)/float64(tasks),
	)
}

// harm kills, stops and delays until the context ends, prints each fault, and returns their number.
func harm(ctx context.Context, t *testing.T, installed *system.Installation, random *rand.Rand) (number int) {
	t.Helper()
	kill := func(namespace, selector string) func(context.Context) error {
		return func(ctx context.Context) error {
			return installed.Kubernetes.CoreV1().
				Pods(namespace).
				DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: selector})
		}
	}
	pause := func(program, length string) func(context.Context) error {
		return func(ctx context.Context) error {
			if output, err := exec.CommandContext(ctx, "go", "-C", "../cluster", "run", ".", "pause", program, length).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, output)
			}
			return nil
		}
	}
	type fault struct {
		name string
		do   func(ctx context.Context) error
	}
	faults := []fault{
		{"the bridge is killed", kill(system.Namespace, "app.kubernetes.io/name=bridge")},
		{"jobsource is killed", kill(system.Namespace, "app.kubernetes.io/name=jobsource")},
		{"the watcher is killed", kill(system.Namespace, "serving.knative.dev/service=watcher")},
		{"the executors are killed", kill(system.Namespace, "serving.knative.dev/service in (executor-deployment,executor-test,executor-get-sli)")},
		{"the Broker's ingress is killed", kill("knative-eventing", "eventing.knative.dev/brokerRole=ingress")},
		{"the Broker's filter is killed", kill("knative-eventing", "eventing.knative.dev/brokerRole=filter")},
		{"the Broker's channel is killed", kill("knative-eventing", "messaging.knative.dev/role=dispatcher")},
		{"the Secret is rotated", func(ctx context.Context) error { return rotate(ctx, installed) }},
		{"Keptn is away for 8 s", func(ctx context.Context) error {
			_, err := installed.SetFaults(ctx, countingLag, 8*time.Second)
			return err
		}},
		{"the API server is stopped for 5 s", pause("kube-apiserver", "5s")},
	}
	if brokerIs("natss") {
		faults = append(faults, fault{"NATS is stopped for 10 s", pause("nats-server", "10s")})
	}
	// Fail if a fault never happens.
	const mostFailures = 3
	failed := map[string]int{}
	for {
		quiet := 3*time.Second + time.Duration(random.Int64N(int64(6*time.Second)))
		select {
		case <-ctx.Done():
			return number
		case <-time.After(quiet):
		}
		fault := faults[random.IntN(len(faults))]
		t.Logf("%s: %s", time.Now().Format(time.TimeOnly), fault.name)
		// A fault must not be interrupted halfway.
		err := fault.do(context.WithoutCancel(ctx))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Logf("%s: %v", fault.name, err) // another fault may still have an effect
			if failed[fault.name]++; failed[fault.name] == mostFailures {
				t.Errorf("%s failed %d times in a row", fault.name, mostFailures)
			}
		} else {
			failed[fault.name] = 0
		}
		number++
	}
}
