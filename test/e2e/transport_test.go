//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
	"github.com/job-executor/job-executor/test/traces"
)

// overEachTransport runs a test over HTTP and over NATS, with a time after which an event
// is lost, and leaves the bridge at NATS.
func overEachTransport(t *testing.T, installed *system.Installation, loss time.Duration, test func(t *testing.T, transport string)) {
	t.Helper()
	afterTest(t, func(ctx context.Context) error { return installed.UseTransport(ctx, "nats", system.CountingTime) })
	for _, transport := range []string{"http", "nats"} {
		t.Run(transport, func(t *testing.T) {
			must(t, installed.UseTransport(t.Context(), transport, loss))
			test(t, transport)
		})
	}
}

// These tests hold for both transports. They run alone, because they change the transport and kill the bridge.
func TestTransports(t *testing.T) {
	installed := connect(t)
	overEachTransport(t, installed, system.CountingTime, func(t *testing.T, _ string) {
		t.Helper()
		t.Run("a sequence of two stages passes", func(t *testing.T) { testTwoStages(t, installed) })
		t.Run("an abort removes the Job", func(t *testing.T) { testAbort(t, installed) })
		t.Run("each task ends while the bridge is killed", func(t *testing.T) { testKilledBridge(t, installed) })
	})
}

// A single abort, as a quick check.
func TestAbort(t *testing.T) { testAbort(t, connect(t)) }

// Two stages. The second one waits for an approval-like task of the first.
func testTwoStages(t *testing.T, installed *system.Installation) {
	t.Helper()
	const approval = "sh.keptn.event.sign-off.triggered"
	must(t, installed.Subscribe(t.Context(), "job-executor", approval))
	project := "e2e-" + uuid.NewString()[:8]
	must(t, installed.CreateProject(t.Context(), project, `apiVersion: spec.keptn.sh/0.2.2
kind: Shipyard
metadata: {name: e2e}
spec:
  stages:
    - name: staging
      sequences:
        - {name: delivery, tasks: [{name: deployment}, {name: sign-off}]}
    - name: production
      sequences:
        - {name: delivery, triggeredOn: [{event: staging.delivery.finished}], tasks: [{name: deployment}]}
`, service, []string{"staging", "production"}, map[string][]byte{"job/config.yaml": []byte(`apiVersion: v2
actions:
  - name: Any
    events: [{name: sh.keptn.event.(deployment|sign-off).triggered}]
    tasks: [{name: say, image: busybox, cmd: [sh, -c], args: ['echo $KEPTN_STAGE']}]
`)}))
	keptnContext, err := installed.Trigger(t.Context(), project, "staging", "delivery", service, nil)
	must(t, err)
	var events []console.Event
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		if events, err = installed.Events(ctx, keptnContext); err != nil {
			return err
		}
		if !slices.ContainsFunc(events, func(event console.Event) bool { return event.Type == "sh.keptn.event.production.delivery.finished" }) {
			return fmt.Errorf("the second stage has not ended; Keptn was told %v", summaries(console.Ours(events)))
		}
		return nil
	}))
	ours := console.Ours(events)
	compare(t, "events", []summary{
		{Type: "deployment.started"}, {"deployment.finished", "succeeded", "pass"},
		{Type: "sign-off.started"}, {"sign-off.finished", "succeeded", "pass"},
		{Type: "deployment.started"}, {"deployment.finished", "succeeded", "pass"},
	}, summaries(ours))
	contains(t, ours[1].Data.Message, "staging")
	contains(t, ours[len(ours)-1].Data.Message, "production")
}

// hasJobs returns a check that a Keptn context has a number of Jobs.
func hasJobs(installed *system.Installation, keptnContext string, wanted int) func(context.Context) error {
	return func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && len(jobs) != wanted {
			err = fmt.Errorf("%s has %d Jobs, not %d", keptnContext, len(jobs), wanted)
		}
		return err
	}
}

func testAbort(t *testing.T, installed *system.Installation) {
	t.Helper()
	project, keptnContext := begin(t, installed, []string{"deployment"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: Forever, image: busybox, cmd: [sleep], args: ["250"]}
      - {name: Never, image: busybox, cmd: ["true"]}
`})
	must(t, console.Eventually(t.Context(), runLimit, hasJobs(installed, keptnContext, 2)))
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && !slices.ContainsFunc(jobs, func(job batchv1.Job) bool { return job.Status.Ready != nil && *job.Status.Ready > 0 }) {
			err = errors.New("no container runs")
		}
		return err
	}))
	// The bridge tracks the task because of the started event.
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		counted, err := installed.Counted(ctx, project, keptnContext)
		if err == nil && counted == 0 {
			err = errors.New("the task is not started")
		}
		return err
	}))
	must(t, installed.Abort(t.Context(), project, keptnContext))
	aborted := time.Now()
	must(t, console.Eventually(t.Context(), runLimit, hasJobs(installed, keptnContext, 0)))
	t.Logf("the Jobs were gone %s after the abort", time.Since(aborted).Round(time.Millisecond))
	events, err := installed.Events(t.Context(), keptnContext)
	must(t, err)
	compare(t, "events", []summary{{Type: "deployment.started"}}, summaries(console.Ours(events)))
}

// Wherever the bridge is killed in its work, each task ends with exactly one started and one finished event, and
// runs once.
func testKilledBridge(t *testing.T, installed *system.Installation) {
	t.Helper()
	const (
		tasks = 50
		// Tasks and kills have different intervals, and do not wait for each other.
		untilNextTask, untilNextKill = 800 * time.Millisecond, 3 * time.Second
	)
	ctx, stop := context.WithTimeout(t.Context(), 2*runLimit)
	defer stop()
	var group sync.WaitGroup
	kills := 0
	killing, enough := context.WithCancel(ctx)
	group.Go(func() {
		ticker := time.NewTicker(untilNextKill)
		defer ticker.Stop()
		for {
			if err := installed.Kill(ctx, "app.kubernetes.io/name=bridge"); err != nil {
				t.Error(err)
			}
			kills++
			select {
			case <-killing.Done():
				return
			case <-ticker.C:
			}
		}
	})
	type sequence struct{ project, keptnContext string }
	var sequences []sequence
	ticker := time.NewTicker(untilNextTask)
	defer ticker.Stop()
	for range tasks {
		project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "still here\n"})
		sequences = append(sequences, sequence{project, keptnContext})
		<-ticker.C
	}
	enough()
	group.Wait()
	t.Logf("%d tasks, the bridge was killed %d times", tasks, kills)
	for _, sequence := range sequences {
		stageState, events := end(t, installed, sequence.project, sequence.keptnContext)
		compare(t, "stage", "succeeded", stageState)
		compare(t, "events of "+sequence.keptnContext, []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
		jobs, err := installed.Jobs(t.Context(), sequence.keptnContext)
		must(t, err)
		compare(t, "Jobs", 1, len(jobs))
	}
}

// The questions of package traces, answered by Jaeger.
func TestTraces(t *testing.T) {
	installed := connect(t)
	overEachTransport(t, installed, system.CountingTime, func(t *testing.T, _ string) {
		t.Helper()
		greet(t, installed) // the bridge is new
		traces.Test(t, tracesOf(installed))
	})
}

// Keptn forgets an uninstalled integration. After a restart, the integration and its edited subscriptions
// remain.
func TestIntegrationIsUnregisteredOnlyWhenUninstalled(t *testing.T) {
	installed := connect(t)
	reinstallAfter(t, installed)
	const edited = "sh.keptn.event.edited.triggered"
	must(t, installed.Subscribe(t.Context(), "job-executor", edited))
	must(t, installed.Restart(t.Context(), "bridge"))
	restarted, err := installed.Integration(t.Context(), "job-executor")
	must(t, err)
	if restarted == nil ||
		!slices.ContainsFunc(restarted.Subscriptions, func(subscription struct{ Event string }) bool { return subscription.Event == edited }) {
		t.Errorf("after a restart the registration is %+v", restarted)
	}
	must(t, installed.DeleteBridge(t.Context()))
	awaitUnregistered(t, installed)
}

// reinstallAfter installs everything again at the end of a test.
func reinstallAfter(t *testing.T, installed *system.Installation) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), installLimit)
		defer cancel()
		if err := installed.Install(ctx, func(string) {}); err != nil {
			t.Error(err)
		}
	})
}

// awaitUnregistered waits until Keptn no longer knows the integration.
func awaitUnregistered(t *testing.T, installed *system.Installation) {
	t.Helper()
	must(t, unregistered(t.Context(), installed))
}

func unregistered(ctx context.Context, installed *system.Installation) error {
	return console.Eventually(ctx, runLimit, func(ctx context.Context) error {
		left, err := installed.Integration(ctx, "job-executor")
		if err == nil && left != nil {
			err = errors.New("it is still registered")
		}
		return err
	})
}
