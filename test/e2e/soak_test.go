//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/job-executor/job-executor/test/bench"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// errand is a sequence that a soak repeats.
type errand struct {
	name   string
	tasks  []string
	config string
	// want are our events. If it is nil, the sequence is aborted while its Job runs.
	want []summary
}

func errands() []errand {
	const head = "apiVersion: v2\nactions:\n"
	errored := []summary{{Type: "test.started"}, {"test.finished", "errored", "fail"}}
	return []errand{
		{name: "delivery", tasks: []string{"deployment", "test", "evaluation"}, config: chaosConfig, want: []summary{
			{Type: "deployment.started"}, {"deployment.finished", "succeeded", "warning"}, {Type: "test.started"}, {"test.finished", "succeeded", "pass"},
			{Type: "get-sli.started"}, {"get-sli.finished", "succeeded", "pass"},
		}},
		{name: "a container that fails", tasks: []string{"test"}, want: errored,
			config: head + "- {name: Check, event: test, image: busybox, cmd: [sh, -c, 'exit 3']}\n"},
		{name: "a mistake", tasks: []string{"test"}, want: errored, config: head + "- {name: Wrong, event: test, imag: busybox}\n"},
		{name: "a long log", tasks: []string{"test"}, want: []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}},
			config: head + "- {name: Talk, event: test, image: busybox, cmd: [sh, -c, 'yes a line of a long log | head -n 100000']}\n"},
		{name: "an abort", tasks: []string{"test"}, config: head + "- {name: Wait, event: test, image: busybox, cmd: [sleep, '600']}\n"},
	}
}

// run runs the sequence once in a project.
func (e errand) run(ctx context.Context, installed *system.Installation, project string) error {
	ctx, cancel := context.WithTimeout(ctx, chaosLimit)
	defer cancel()
	var keptnContext string
	// The API server or Keptn may be unavailable for a moment.
	if err := console.Eventually(ctx, runLimit, func(ctx context.Context) (err error) {
		keptnContext, err = installed.Trigger(ctx, project, stage, "pipeline", service, nil)
		return err
	}); err != nil {
		return err
	}
	if e.want == nil {
		return e.abort(ctx, installed, project, keptnContext)
	}
	if _, err := finishes(ctx, installed, project, keptnContext); err != nil {
		return err
	}
	return console.Eventually(ctx, runLimit, func(ctx context.Context) error {
		events, err := installed.Events(ctx, keptnContext)
		if difference := cmp.Diff(e.want, summaries(console.Ours(events))); err == nil && difference != "" {
			err = fmt.Errorf("the events of %s differ (-want +got):\n%s", keptnContext, difference)
		}
		return err
	})
}

// abort aborts the sequence once it has a Job. The Job must then be deleted.
func (e errand) abort(ctx context.Context, installed *system.Installation, project, keptnContext string) error {
	if err := console.Eventually(ctx, runLimit, hasJobs(installed, keptnContext, 1)); err != nil {
		return err
	}
	if err := console.Eventually(ctx, runLimit, func(ctx context.Context) error { return installed.Abort(ctx, project, keptnContext) }); err != nil {
		return err
	}
	return console.Eventually(ctx, runLimit, hasJobs(installed, keptnContext, 0))
}

// The ends of a cycle's parts, as shares of its length: under load, memory settles and is then measured; faults follow, and then silence.
const (
	settling, loaded, harmed = 0.2, 0.7, 0.8
	soakWorkers              = 4
	// maxGrowth bounds the growth of a figure while it is measured, as a share of its mean and beyond three standard errors.
	maxGrowth, standardErrors = 0.25, 3
	// shortestJudged is the shortest measurement that can show growth. Until then, connections and caches still fill.
	shortestJudged = 10 * time.Minute
)

// TestSoak repeats different sequences for SOAK_HOURS, in cycles of about an hour over each transport in turn. Near the end of a cycle,
// processes are killed, and keys and tokens are replaced. Memory, goroutines and open files of the functions that always run stay flat
// under the load, and so do their requests while nothing happens. Only `make soak` is long enough to judge growth.
func TestSoak(t *testing.T) {
	installed := connect(t)
	const short = 0.05
	hours := chaosSetting(t, "SOAK_HOURS", short)
	cycles := max(2, int(hours))
	length := time.Duration(hours * float64(time.Hour) / float64(cycles))
	random := rand.New(rand.NewPCG(uint64(chaosSetting(t, "CHAOS_SEED", 1)), 0))
	setStartDeadline(t, installed, chaosLimit)
	createRotated(t, installed)
	afterTest(t, func(ctx context.Context) error { return installed.UseTransport(ctx, "nats", system.CountingTime) })
	afterTest(t, func(ctx context.Context) error {
		_, err := installed.SetFaults(ctx, 0, 0)
		return err
	})
	projects := make([]map[string]string, soakWorkers) // by errand
	for worker := range projects {
		projects[worker] = map[string]string{}
		for _, errand := range errands() {
			projects[worker][errand.name] = createProject(t, installed, errand.tasks, map[string]string{"job/config.yaml": errand.config, "slo.yaml": chaosSLO})
		}
	}
	idle := map[string][]map[string]float64{} // by transport
	for cycle := range cycles {
		transport := []string{"nats", "http"}[cycle%2]
		must(t, installed.UseTransport(t.Context(), transport, lossTimeout))
		began := time.Now()
		at := func(share float64) time.Time { return began.Add(time.Duration(share * float64(length))) }
		var load errgroup.Group
		counts := make([]int, soakWorkers)
		for worker := range soakWorkers {
			load.Go(func() (err error) {
				for ; err == nil && time.Now().Before(at(harmed)); counts[worker]++ {
					errand := errands()[(worker+counts[worker])%len(errands())]
					if err = errand.run(t.Context(), installed, projects[worker][errand.name]); err != nil {
						err = fmt.Errorf("%s in project %s: %w", errand.name, projects[worker][errand.name], err)
					}
				}
				return err
			})
		}
		must(t, until(t.Context(), at(loaded)))
		flat(t, transport, at(settling), at(loaded))
		harming, cancel := context.WithDeadline(t.Context(), at(harmed))
		faults := harm(harming, t, installed, random)
		cancel()
		must(t, rotateCredentials(t.Context(), installed, transport))
		_, err := installed.SetFaults(t.Context(), 0, 0)
		must(t, err)
		must(t, load.Wait())
		must(t, installed.WaitForZero(t.Context(), zeroLimit, "executor-deployment", "executor-test", "executor-get-sli", "watcher"))
		quiet, err := requestsPerMinute(t.Context(), installed, time.Duration((1-harmed)*float64(length)))
		must(t, err)
		idle[transport] = append(idle[transport], quiet)
		t.Logf("cycle %d over %s: %v sequences of each worker, %d faults, then idle requests per minute: %v", cycle, transport, counts, faults, quiet)
	}
	for transport, cycles := range idle {
		const most, few = 1.5, 2
		for name, last := range cycles[len(cycles)-1] {
			if last > most*cycles[0][name]+few {
				t.Errorf("over %s, %s makes %.1f idle requests per minute, and made %.1f in the first cycle", transport, name, last, cycles[0][name])
			}
		}
	}
}

// until waits until a time.
func until(ctx context.Context, moment time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(moment)):
		return nil
	}
}

// flat checks that no figure of a pod grows. It only logs figures that were measured for less than shortestJudged.
func flat(t *testing.T, transport string, from, to time.Time) {
	t.Helper()
	const bins, scrapes = 10, 15 * time.Second
	step := to.Sub(from) / bins
	for _, name := range []string{"process_resident_memory_bytes", "go_memstats_heap_inuse_bytes", "go_goroutines", "process_open_fds"} {
		query := fmt.Sprintf(`avg_over_time(%s{pod=~"(bridge|jobsource)-.*"}[%ds])`, name, int(max(step, scrapes).Seconds()))
		found, err := watched.Series(t.Context(), query, from.Add(step), to, step.Truncate(time.Second))
		must(t, err)
		measured := 0
		for _, series := range found {
			if len(series.Values) < bins {
				continue // a pod that ended
			}
			measured++
			slope, standardError := bench.Slope(series.Times, series.Values)
			mean := 0.0
			for _, value := range series.Values {
				mean += value / float64(len(series.Values))
			}
			perHour := time.Hour.Seconds()
			t.Logf("%s of %s over %s: %.4g on average, %+.3g ± %.2g per hour", name, series.Labels["pod"], transport, mean, slope*perHour, standardError*perHour)
			growth := (slope - standardErrors*standardError) * to.Sub(from).Seconds()
			if to.Sub(from) >= shortestJudged && growth > maxGrowth*mean {
				t.Errorf("%s of %s grows by %.4g in %s", name, series.Labels["pod"], growth, to.Sub(from).Round(time.Second))
			}
		}
		if measured < 2 {
			t.Errorf("%s was measured for %d pods", name, measured)
		}
	}
}

// rotateCredentials replaces the functions' keys, and over HTTP lets Keptn refuse the token until the bridge says so.
func rotateCredentials(ctx context.Context, installed *system.Installation, transport string) error {
	if err := errors.Join(installed.RemoveSigningKeys(ctx), installed.Restart(ctx, "bridge")); err != nil || transport != "http" {
		return err
	}
	token, err := installed.Token(ctx)
	if err != nil {
		return err
	}
	if err := installed.SetToken(ctx, "refused"); err != nil {
		return err
	}
	err = console.Eventually(ctx, runLimit, func(ctx context.Context) error {
		log, err := installed.Kubectl(ctx, "logs", "--namespace", system.Namespace, "deployment/bridge")
		if err == nil && !strings.Contains(log, "Keptn refuses the API token") {
			err = errors.New("the bridge does not say that its token is refused")
		}
		return err
	})
	return errors.Join(err, installed.SetToken(context.WithoutCancel(ctx), token))
}

// requestsPerMinute counts the requests of each function to the API server, but for Leases, and of all to Keptn, in a time of at least a
// minute.
func requestsPerMinute(ctx context.Context, installed *system.Installation, length time.Duration) (map[string]float64, error) {
	length = max(length, time.Minute)
	before, err := installed.Requests(ctx)
	if err == nil {
		err = until(ctx, time.Now().Add(length))
	}
	if err != nil {
		return nil, err
	}
	after, err := installed.Requests(ctx)
	perMinute := map[string]float64{}
	for _, name := range []string{"bridge", "executor", "jobsource", "watcher", system.ToKeptn} {
		perMinute[name] = float64(after[name]-before[name]) / length.Minutes()
	}
	return perMinute, err
}
