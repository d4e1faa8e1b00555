package simulation

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// TestMain disables client-go's error handlers, which log with klog and wait by the real clock.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	number, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("environment variable %s: %v", name, err)
	}
	return number
}

// gcPercent trades memory for time. Worlds need little memory.
const gcPercent = 400

// endLimit is longer than the longest timeout of a request.
const endLimit = 10 * time.Minute

type outcome struct {
	tasks, steps int
	history      uint64
	violations   []string
	// about returns the last events of a violation.
	about    func(violation string) []string
	took     time.Duration
	happened map[string]int
}

// simulate runs one seed in a bubble of virtual time.
func simulate(t *testing.T, seed, tasks int) (result outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		world := newWorld(ctx, t, uint64(seed), tasks)
		world.start()
		world.load()
		time.Sleep(faultsAfter)
		world.calm.Store(true)
		world.heal()
		world.quiet()
		judged := world.judge()
		cancel()
		time.Sleep(endLimit) // timers of requests whose callers have died
		result = outcome{tasks: judged, steps: world.steps, history: world.history.Sum64(), violations: world.violations, about: world.recent.about,
			took: time.Since(world.began), happened: world.happened}
	})
	return result
}

// totals are how often each kind of thing happened in all worlds.
type totals struct {
	mutex sync.Mutex
	times map[string]int
}

func (t *totals) add(what string, times int) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.times == nil {
		t.times = map[string]int{}
	}
	t.times[what] += times
}

// String lists them.
func (t *totals) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	var text strings.Builder
	for _, what := range slices.Sorted(maps.Keys(t.times)) {
		fmt.Fprintf(&text, "simulated: %s, %d times\n", what, t.times[what])
	}
	return text.String()
}

// TestEveryTaskEndsOnceWhateverFails runs SEEDS seeds from SEED on, each with
// about TASKS tasks.
func TestEveryTaskEndsOnceWhateverFails(t *testing.T) {
	before := debug.SetGCPercent(gcPercent)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	first, seeds, tasks := setting(t, "SEED", 1), setting(t, "SEEDS", 2), setting(t, "TASKS", 50)
	total := &totals{}
	t.Cleanup(func() { fmt.Print(total) }) // whether it passes or not
	for seed := first; seed < first+seeds; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			result := simulate(t, seed, tasks)
			t.Logf("%d tasks in %d steps and %s", result.tasks, result.steps, result.took)
			for what, times := range result.happened {
				total.add(what, times)
			}
			for _, violation := range result.violations {
				t.Errorf("%s\n\t%s", violation, strings.Join(result.about(violation), "\n\t"))
			}
			if t.Failed() {
				t.Logf("repeat with: make simulate SEED=%d SEEDS=1 TASKS=%d LOG=debug", seed, tasks)
			}
		})
	}
}

func TestASeedDecidesEverything(t *testing.T) {
	const seed, tasks = 7, 20
	first, second := simulate(t, seed, tasks), simulate(t, seed, tasks)
	if first.history != second.history || first.steps != second.steps {
		t.Errorf("the same seed led to two histories, of %d and %d steps", first.steps, second.steps)
	}
}
