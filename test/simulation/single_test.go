package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/embedded"
)

// plannedFault is the only fault in a world.
type plannedFault struct {
	// name is the first column in functions/README.md.
	name string
	harshness
	// begin starts the fault, and end stops it.
	begin, end func(w *world)
	lasts      time.Duration

	// Faults of the next matching event.
	fate embedded.Fate
	// hidesLogs makes all logs unreadable, and deletesPod deletes the next pod.
	hidesLogs, deletesPod bool
	// lag is the delay of Keptn's counting.
	lag time.Duration
	// loses, doubles and dropped are event types: the Broker loses or duplicates such an event, or Keptn accepts it
	// and does not count it.
	loses, doubles, dropped string
}

// deliveries returns how many times the Broker delivers an event.
func (p *plannedFault) deliveries(w *world, eventType string) int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	switch {
	case isOf(eventType, p.loses):
		p.loses = ""
		return 0
	case isOf(eventType, p.doubles):
		p.doubles = ""
		return 2
	default:
		return 1
	}
}

// deletesPod reports whether another user deletes a starting pod.
func (w *world) deletesPod(random *rand.Rand) bool {
	if w.planned == nil {
		return w.faulty() && random.Float64() < 0.01 //nolint:mnd // a few
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	deletes := w.planned.deletesPod
	w.planned.deletesPod = false
	return deletes
}

// drops reports whether Keptn loses an accepted event.
func (p *plannedFault) drops(w *world, eventType string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	drops := isOf(eventType, p.dropped)
	if drops {
		p.dropped = ""
	}
	return drops
}

// plan plans the fault of the next matching event.
func plan(change func(planned *plannedFault)) func(*world) {
	return func(w *world) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		change(w.planned)
	}
}

func isOf(eventType, wanted string) bool { return wanted != "" && strings.HasSuffix(eventType, wanted) }

// dies has a program die.
func dies(name string) func(*world) {
	return func(w *world) {
		w.mutex.Lock()
		running := w.processes[name]
		w.mutex.Unlock()
		running.die()
	}
}

// toJob acts on the first Job in a phase.
func toJob(phase run.Phase, resumes bool) func(*world) {
	return func(w *world) {
		for range 1000 {
			list, err := w.cluster.Client(nil).BatchV1().Jobs("").List(w.ctx, metav1.ListOptions{LabelSelector: run.Selector})
			if err != nil {
				w.violate("list Jobs: %v", err)
				return
			}
			run.Sort(list.Items)
			for index := range list.Items {
				if run.PhaseOf(&list.Items[index]) == phase {
					w.meddleWith(&list.Items[index], resumes)
					return
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		w.violate("there was no Job that is %s", phase)
	}
}

// singleFaults returns each single fault, always in the same order.
func singleFaults() []*plannedFault {
	const started, finished = "." + string(keptn.Started), "." + string(keptn.Finished)
	faults := []*plannedFault{{name: "nothing goes wrong", begin: func(*world) {}}}
	for _, killed := range []struct{ name, program string }{
		{"the bridge", "bridge"}, {"jobsource", "jobsource"}, {"the watcher", "watcher"}, {"an executor", "executor-test"}, {"the Broker", "broker"},
	} {
		faults = append(faults, &plannedFault{name: killed.name + " is killed", begin: dies(killed.program)})
	}
	for _, of := range []struct{ name, eventType string }{
		{"a triggered event", "." + string(keptn.Triggered)}, {"a started event", started}, {"a finished event", finished},
		{"a Job's completion", protocol.CompletedType}, {"a notice that a run is reported", protocol.ReportedType},
	} {
		for _, deduplicates := range []bool{false, true} {
			later := harshness{asynchronous: true, deduplicates: deduplicates}
			faults = append(
				faults,
				&plannedFault{name: "loses " + of.name, harshness: later, begin: plan(func(planned *plannedFault) { planned.loses = of.eventType })},
				&plannedFault{name: "duplicates " + of.name, harshness: later, begin: plan(func(planned *plannedFault) { planned.doubles = of.eventType })},
			)
		}
	}
	down := func(name string, lasts time.Duration) *plannedFault {
		return &plannedFault{
			name:  name,
			lasts: lasts,
			begin: func(w *world) { w.keptnDown.Store(true) },
			end:   func(w *world) { w.keptnDown.Store(false) },
		}
	}
	return append(
		faults,
		down("Keptn is away for 70 s", 70*time.Second),
		down("Keptn is away for 10 min", 10*time.Minute),
		&plannedFault{
			name: "a proxy answers 404 in Keptn's place for a minute", lasts: time.Minute,
			begin: func(w *world) { w.foreign.Store(1) }, end: func(w *world) { w.foreign.Store(0) },
		},
		&plannedFault{
			name: "Keptn takes up to 30 s for each request, for 5 min", lasts: 5 * time.Minute,
			begin: func(w *world) { w.keptnSlow.Store(true) }, end: func(w *world) { w.keptnSlow.Store(false) },
		},
		&plannedFault{
			name: "Keptn counts 5 min late, for 5 min", lasts: 5 * time.Minute,
			begin: plan(func(planned *plannedFault) { planned.lag = 5 * time.Minute }), end: plan(func(planned *plannedFault) { planned.lag = 0 }),
		},
		&plannedFault{name: "Keptn accepts a started event and loses it", begin: plan(func(planned *plannedFault) { planned.dropped = started })},
		&plannedFault{name: "Keptn accepts a finished event and loses it", begin: plan(func(planned *plannedFault) { planned.dropped = finished })},
		&plannedFault{name: "Keptn's clock is 10 min fast", begin: func(w *world) { w.keptnClock.Store(int64(10 * time.Minute)) }},
		&plannedFault{name: "Kubernetes' clock is 10 min fast", begin: func(w *world) { w.kubernetesClock.Store(int64(10 * time.Minute)) }},
		&plannedFault{
			name: "the API server is away for a minute", lasts: time.Minute,
			begin: func(w *world) { w.apiDown.Store(true) }, end: func(w *world) { w.apiDown.Store(false) },
		},
		&plannedFault{name: "a running Job is deleted", begin: toJob(run.Running, false)},
		&plannedFault{name: "a waiting Job is deleted", begin: toJob(run.Waiting, false)},
		&plannedFault{name: "a waiting Job is resumed by others", begin: toJob(run.Waiting, true)},
		&plannedFault{name: "a pod is deleted", begin: plan(func(planned *plannedFault) { planned.deletesPod = true })},
		&plannedFault{
			name:  "a pod is refused, or not scheduled (START_DEADLINE is 5 min)",
			begin: plan(func(planned *plannedFault) { planned.fate = embedded.Unschedulable }),
		},
		&plannedFault{name: "a pod is refused, and each search for events of Kubernetes takes up to 30 s", begin: func(w *world) {
			w.crowded.Store(true)
			plan(func(planned *plannedFault) { planned.fate = embedded.Refused })(w)
		}},
		&plannedFault{name: "a node is lost, with a Job whose limit is 10 min", begin: plan(func(planned *plannedFault) { planned.fate = embedded.NodeLost })},
		&plannedFault{name: "no log can be read", begin: plan(func(planned *plannedFault) { planned.hidesLogs = true })},
		&plannedFault{
			name: "a namespace is deleted, and recreated after a minute", lasts: time.Minute,
			begin: (*world).deleteNamespace, end: func(w *world) { w.namespaceDown.Store(false) },
		},
		&plannedFault{name: "a namespace is deleted", begin: (*world).deleteNamespace},
		&plannedFault{name: "a namespace is deleted, and jobsource is killed", begin: func(w *world) {
			w.deleteNamespace()
			dies("jobsource")(w)
		}},
		&plannedFault{name: "an executor for another task never answers", harshness: harshness{stuck: true}, begin: func(*world) {}},
		&plannedFault{
			name:      "one of 100 task types cannot be listed, and one of 100 namespaces cannot be watched",
			harshness: harshness{many: true},
			begin:     func(*world) {},
		},
	)
}

// begun is the time from which a bridge is sure that no earlier bridge has sent events for new tasks.
const begun = 15 * time.Second

// longestOpen runs a world with one fault, and returns the longest time for which a task was open.
func longestOpen(t *testing.T, seed int, transport bridge.Transport, planned *plannedFault) (longest time.Duration) {
	t.Helper()
	const tasks = 20
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		world := newWorldOf(ctx, t, uint64(seed), tasks, transport, planned.harshness, planned)
		world.start()
		go func() {
			time.Sleep(begun + between(world.chance.draw("the fault"), 3*time.Second, 40*time.Second))
			world.note("now: %s", planned.name)
			planned.begin(world)
			time.Sleep(planned.lasts)
			if planned.end != nil {
				planned.end(world)
			}
			world.note("over: %s", planned.name)
		}()
		time.Sleep(begun)
		world.load()
		world.heal()
		world.judge()
		cancel()
		time.Sleep(endLimit)
		world.mutex.Lock()
		defer world.mutex.Unlock()
		for task, opened := range world.opened {
			if closed := world.closed[task]; !closed.IsZero() {
				longest = max(longest, closed.Sub(opened))
			}
		}
		for _, violation := range world.violations {
			t.Errorf("seed %d over %s: %s", seed, transport, violation)
		}
	})
	return longest
}

// row is a row of a table in functions/README.md, and seconds are its columns.
var (
	row     = regexp.MustCompile(`(?m)^\| ([^|]+?) \|((?: \d+ s \|)+)$`)
	seconds = regexp.MustCompile(`\d+ s`)
)

// column returns the column of a fault over a transport.
func (p *plannedFault) column(transport bridge.Transport) int {
	column := slices.Index([]bridge.Transport{overHTTP, overNATS}, transport)
	if p.deduplicates {
		column += 2
	}
	return column
}

// TestNoTaskStaysOpenLongerThanDocumented measures for each single fault how long a task of up to three Jobs
// of 5 s is open. FAULT_SEEDS=20 tries twenty moments.
func TestNoTaskStaysOpenLongerThanDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../functions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for _, match := range row.FindAllStringSubmatch(string(readme), -1) {
		documented[match[1]] = seconds.FindAllString(match[2], -1)
	}
	seeds := setting(t, "FAULT_SEEDS", 1)
	for index, fault := range singleFaults() {
		for _, transport := range []bridge.Transport{overHTTP, overNATS} {
			column := fault.column(transport)
			t.Run(fmt.Sprintf("%s over %s, drops resends: %t", fault.name, transport, fault.deduplicates), func(t *testing.T) {
				t.Parallel()
				var longest time.Duration
				for seed := range seeds {
					longest = max(longest, longestOpen(t, seed+1, transport, singleFaults()[index]))
				}
				t.Logf("a task was open for %s", longest)
				if len(documented[fault.name]) <= column {
					t.Fatal("functions/README.md does not say how long")
				}
				bound, err := time.ParseDuration(strings.ReplaceAll(documented[fault.name][column], " ", ""))
				if err != nil || longest > bound {
					t.Errorf("a task was open for %s, but functions/README.md says %s", longest, bound)
				}
			})
		}
	}
}

// A slow Keptn gets fewer requests.
func TestASlowKeptnIsAskedLess(t *testing.T) {
	perMinute := map[bool]float64{}
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			world := newWorldOf(ctx, t, 1, 100, overHTTP, harshness{busy: slow}, &plannedFault{})
			if slow {
				plan(func(planned *plannedFault) { planned.lag = time.Minute })(world)
				world.keptnSlow.Store(true)
			}
			world.start()
			world.load()
			began := time.Now()
			world.heal()
			t.Logf("slow %v: all ended %s after the last was triggered", slow, time.Since(began))
			world.mutex.Lock()
			perMinute[slow] = float64(world.requests) / time.Since(world.began).Minutes()
			world.mutex.Unlock()
			cancel()
			time.Sleep(endLimit)
		})
	}
	if perMinute[true] >= perMinute[false] {
		t.Errorf("slow Keptn had %.0f requests a minute, a quick one %.0f", perMinute[true], perMinute[false])
	}
	t.Logf("requests a minute: %.0f of a quick Keptn, %.0f of a slow one", perMinute[false], perMinute[true])
}
