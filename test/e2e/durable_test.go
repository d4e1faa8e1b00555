//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// brokerIs reports whether Brokers are of one of some classes (BROKER).
func brokerIs(classes ...string) bool { return slices.Contains(classes, os.Getenv("BROKER")) }

// All of Knative Eventing is killed while events are in flight. Each task ends once. A Broker that keeps events on
// disk delivers them without the bridge's help.
func TestKnativeIsKilledWithEventsUnderWay(t *testing.T) {
	installed := connect(t)
	setStartDeadline(t, installed, chaosLimit)
	const begun = 20
	sequences := 60                            // a node takes seven minutes to start 200 pods
	isDurable := brokerIs("natss", "rabbitmq") // the Broker keeps events on disk
	if isDurable {
		sequences = 200
	}
	before := republished(t, installed)
	projects, keptnContexts := make([]string, sequences), make([]string, sequences)
	// The pods are so small that the node starts them as fast as it can.
	const config = `apiVersion: v2
actions:
- name: Greet
  event: test.triggered
  image: busybox
  cmd: [echo, hello]
  resources: {requests: {cpu: 1m, memory: 8Mi}}
`
	for index := range projects {
		projects[index] = createProject(t, installed, []string{"test"}, map[string]string{"job/config.yaml": config})
	}
	for index, project := range projects {
		keptnContexts[index] = trigger(t, installed, project)
	}
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		started := 0
		for _, keptnContext := range keptnContexts {
			jobs, err := installed.Jobs(ctx, keptnContext)
			if err != nil {
				return err
			}
			started += min(len(jobs), 1)
		}
		if started < begun {
			return fmt.Errorf("%d of %d runs have Jobs", started, sequences)
		}
		return nil
	}))
	must(t, installed.Kubernetes.CoreV1().Pods("knative-eventing").
		DeleteCollection(t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{}))
	must(t, installed.Kill(t.Context(), "eventing.knative.dev/broker")) // RabbitMQ's Broker is in this namespace
	killed := time.Now()
	limit, cancel := context.WithTimeout(t.Context(), chaosLimit)
	defer cancel()
	for index, project := range projects {
		succeedsWithin(limit, t, installed, project, keptnContexts[index])
	}
	again := republished(t, installed) - before
	t.Logf("the last task ended %s after Knative Eventing was killed; %d triggered events were published again", time.Since(killed).Round(time.Second), again)
	if isDurable && again > 0 {
		t.Errorf("the Broker lost %d triggered events", again)
	}
}

// republished returns how many triggered events the bridge has published again.
func republished(t *testing.T, installed *system.Installation) (total int) {
	t.Helper()
	bridge, err := installed.Elected(t.Context(), "bridge")
	must(t, err)
	content, err := installed.Kubernetes.CoreV1().Pods(system.Namespace).ProxyGet("http", bridge, "9090", "metrics", nil).DoRaw(t.Context())
	must(t, err)
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "job_executor_events_retried_total{") || !strings.Contains(line, ".triggered") {
			continue
		}
		var count float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &count); err != nil {
			t.Fatalf("read the metric %s: %v", line, err)
		}
		total += int(count)
	}
	return total
}
