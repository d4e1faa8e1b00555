package keptn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// control is a control plane of one task, with faults.
type control struct {
	mutex    sync.Mutex
	standing Standing
	counted  []Phase
	// drop has that many started events answered with success and dropped.
	drop int
	// fail has that many calls fail before they have an effect.
	fail int
	// lost has that many sends fail after they had it.
	lost int
	// pending is how often it is asked until the task is dispatched.
	pending int
	// stuck has one started event stay in the stream until it is given again, while
	// Keptn can't be asked for a moment (recording 55-shipyard-restart).
	stuck bool
	// busy has that many questions after a started event be answered with 429.
	busy, refuse int
	// limbo is when that started event is counted.
	limbo time.Time
}

var errDown = errors.New("Keptn is down")

func (control *control) Send(_ context.Context, outgoing event.Event) error {
	control.mutex.Lock()
	defer control.mutex.Unlock()
	if control.fail > 0 {
		control.fail--
		return errDown
	}
	_, phase, _ := ParseType(outgoing.Type())
	control.arrive()
	if phase == Started {
		control.refuse = control.busy
	}
	switch {
	case control.standing != Current, control.pending > 0:
	case phase == Started && control.drop > 0:
		control.drop--
	case phase == Started && control.stuck:
		control.stuck, control.fail, control.limbo = false, 1, time.Now().Add(ackWait)
	default:
		control.counted = append(control.counted, phase)
	}
	if control.lost > 0 {
		control.lost--
		return errDown
	}
	return nil
}

func (control *control) Count(context.Context, Task) (Count, error) {
	control.mutex.Lock()
	defer control.mutex.Unlock()
	if control.fail > 0 {
		control.fail--
		return Count{}, &StatusError{Code: http.StatusBadGateway}
	}
	if control.refuse > 0 {
		control.refuse--
		return Count{}, &StatusError{Code: http.StatusTooManyRequests}
	}
	if control.pending > 0 {
		control.pending--
		return Count{Standing: Pending}, nil
	}
	control.arrive()
	return control.count(), nil
}

// arrive counts what was in limbo, unless the task is over by then.
func (control *control) arrive() {
	if control.limbo.IsZero() || time.Now().Before(control.limbo) {
		return
	}
	control.limbo = time.Time{}
	if control.count().Standing == Current {
		control.counted = append(control.counted, Started)
	}
}

func (control *control) count() Count {
	count := Count{Standing: control.standing}
	for _, phase := range control.counted {
		switch phase {
		case Started:
			count.Started++
		case Finished:
			count.Finished++
		}
	}
	if count.Started > 0 && count.Started == count.Finished {
		count.Standing = Over
	}
	return count
}

// ackWait is after what time Keptn's stream gives an event again.
const ackWait = 30 * time.Second

var reportedTask = Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v"}

func newTestReporter(control *control, verify bool) *Reporter {
	return NewReporter(control, control, verify, Wait{Interval: 50 * time.Millisecond, Limit: 3 * time.Second}, time.Now, noop.Meter{}, slog.New(slog.DiscardHandler))
}

func TestReporterDelivers(t *testing.T) {
	started := reportedTask.Started(now)
	finished := reportedTask.Finished(now, Errored("no"))
	both := []Phase{Started, Finished}
	tests := []struct {
		name    string
		control *control
		verify  bool
		events  []event.Event
		want    []Phase
		err     error
	}{
		{"started, then finished", &control{standing: Current}, false, []event.Event{started, finished}, both, nil},
		{"each once, however often it is given", &control{standing: Current}, false, []event.Event{started, started, finished, finished, started}, both, nil},
		{"a finished event brings the started one", &control{standing: Current}, false, []event.Event{finished}, both, nil},
		{"a started event that comes last is dropped", &control{standing: Current}, false, []event.Event{finished, started}, both, nil},
		{"what Keptn has is not sent again after a restart", &control{standing: Current, counted: []Phase{Started}}, false, []event.Event{started, finished}, both, nil},
		{"nothing is sent for a task that is over", &control{standing: Over}, false, []event.Event{started, finished}, nil, nil},
		{"it waits until the task is dispatched", &control{standing: Current, pending: 3}, true, []event.Event{started}, []Phase{Started}, nil},
		{"it gives up on a paused task for now", &control{standing: Current, pending: 1 << 30}, true, []event.Event{started}, nil, ErrNotCounted},
		{"a started event that Keptn dropped is sent again", &control{standing: Current, drop: 2}, true, []event.Event{started, finished}, both, nil},
		{"but not for ever", &control{standing: Current, drop: 3}, true, []event.Event{started}, nil, ErrNotCounted},
		{"not as long as Keptn does not say that it dropped it", &control{standing: Current, busy: 100}, true, []event.Event{started}, []Phase{Started}, ErrNotCounted},
		{"one that may be on its way is not", &control{standing: Current, stuck: true}, true, []event.Event{started, started}, nil, ErrNotCounted},
		{"two that were counted are two that are finished", &control{standing: Current, counted: []Phase{Started, Started}}, true, []event.Event{finished, finished}, []Phase{Started, Started, Finished, Finished}, nil},
		{"an error is the caller's to repeat", &control{standing: Current, lost: 1}, false, []event.Event{started}, []Phase{Started}, errDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reporter := newTestReporter(test.control, test.verify)
				var err error
				for _, outgoing := range test.events {
					_, failure := reporter.Deliver(t.Context(), outgoing)
					err = errors.Join(err, failure)
				}
				if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
					t.Errorf("got error %v, want %v", err, test.err)
				}
				if difference := cmp.Diff(test.want, test.control.counted); difference != "" {
					t.Errorf("counted (-want +got):\n%s", difference)
				}
			})
		})
	}
}

// However events are repeated, reordered and interrupted by failures and
// restarts: as long as the caller repeats what failed, Keptn counts exactly one
// started and then one finished event.
func TestReporterNeverCountsTwice(t *testing.T) {
	const schedules = 10000
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(schedules) {
			schedule(t, seed)
		}
	})
}

func schedule(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	control := &control{standing: Current, drop: random.IntN(3), fail: random.IntN(4), lost: random.IntN(2), pending: random.IntN(3), stuck: random.IntN(4) == 0}
	reporter := newTestReporter(control, true)
	toDo := []event.Event{reportedTask.Started(now), reportedTask.Finished(now, Errored("no")), reportedTask.Started(now), reportedTask.Finished(now, Errored("no"))}
	random.Shuffle(len(toDo), func(one, other int) { toDo[one], toDo[other] = toDo[other], toDo[one] })
	restarts := !control.stuck // what a bridge does not remember, it can't wait for
	for attempts := 0; len(toDo) > 0; attempts++ {
		const tooMany = 1000
		if attempts > tooMany {
			t.Fatalf("seed %d: it never ends", seed)
		}
		time.Sleep(time.Duration(random.Int64N(int64(10 * time.Second))))
		if restarts && random.IntN(4) == 0 {
			reporter = newTestReporter(control, true)
		}
		next := random.IntN(len(toDo))
		if _, err := reporter.Deliver(t.Context(), toDo[next]); err == nil {
			toDo = append(toDo[:next], toDo[next+1:]...)
		}
	}
	if difference := cmp.Diff([]Phase{Started, Finished}, control.counted); difference != "" {
		t.Fatalf("seed %d: counted (-want +got):\n%s", seed, difference)
	}
}

// What a restarted bridge can't know is mended: both started events of a task that
// has two are finished, so that it ends.
func TestTaskEndsEvenIfItIsStartedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		control := &control{standing: Current, stuck: true}
		started, finished := reportedTask.Started(now), reportedTask.Finished(now, Errored("no"))
		if _, err := newTestReporter(control, true).Deliver(t.Context(), started); err == nil {
			t.Fatal("Keptn could not be asked")
		}
		reporter := newTestReporter(control, true)
		if _, err := reporter.Deliver(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * ackWait)
		if _, err := reporter.Deliver(t.Context(), finished); err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff([]Phase{Started, Started, Finished, Finished}, control.counted); difference != "" {
			t.Errorf("counted (-want +got):\n%s", difference)
		}
	})
}

func TestWhatIsDroppedIsCounted(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	control := &control{standing: Current}
	reporter := NewReporter(control, control, false, Wait{Interval: time.Second, Limit: time.Second}, time.Now, meter, slog.New(slog.DiscardHandler))
	var sent []bool
	for range 3 {
		once, err := reporter.Deliver(t.Context(), reportedTask.Started(now))
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, once)
	}
	if difference := cmp.Diff([]bool{true, false, false}, sent); difference != "" {
		t.Errorf("sent (-want +got):\n%s", difference)
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	sum, ok := collected.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64])
	if name := collected.ScopeMetrics[0].Metrics[0].Name; !ok || name != "keptn.events.dropped" || sum.DataPoints[0].Value != 2 {
		t.Errorf("got %s: %+v", name, sum)
	}
}

func TestReporterDeliversOnceToManyCallers(t *testing.T) {
	control := &control{standing: Current}
	reporter := newTestReporter(control, true)
	var group sync.WaitGroup
	failures := make(chan error, 20)
	for index := range cap(failures) {
		group.Go(func() {
			outgoing := reportedTask.Started(now)
			if index%2 == 1 {
				outgoing = reportedTask.Finished(now, Errored(fmt.Sprint(index)))
			}
			_, err := reporter.Deliver(t.Context(), outgoing)
			failures <- err
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			t.Error(err)
		}
	}
	if difference := cmp.Diff([]Phase{Started, Finished}, control.counted); difference != "" {
		t.Errorf("counted (-want +got):\n%s", difference)
	}
}
