package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

// control is a control plane of one task that takes events at once and counts them
// later, with faults.
type control struct {
	mutex    sync.Mutex
	standing keptn.Standing
	counted  []keptn.Phase
	sources  []string
	// lag returns the delay before an accepted event is counted.
	lag func() time.Duration
	// deduplication is how long an event with a known id is dropped.
	deduplication time.Duration
	// drop is how many events are accepted and never counted.
	drop int
	// fail is how many calls fail without effect.
	fail int
	// lost is how many sends fail after they took effect.
	lost int
	// pending is how many questions are answered before the task is dispatched.
	pending int

	// refuse returns why Keptn refuses an event; nil refuses none.
	refuse func(outgoing event.Event) error
	// sent has the messages of all sent events.
	sent []string

	taken     map[string]time.Time
	underWay  []underWay
	questions int
	sends     int
	archived  bool
	// published are the ids of the events that core NATS had.
	published map[keptn.Phase][]string
}

// Published answers as mongodb-datastore.
func (c *control) Published(_ context.Context, _ keptn.Task, phase keptn.Phase) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.published[phase]), nil
}

type underWay struct {
	phase keptn.Phase
	at    time.Time
}

func (c *control) Send(_ context.Context, outgoing event.Event) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.sends++
	if c.fail > 0 {
		c.fail--
		return &net.OpError{Op: "dial", Err: errDown}
	}
	c.arrive()
	var data struct{ Message string }
	_ = outgoing.DataAs(&data)
	c.sent = append(c.sent, data.Message)
	if c.refuse != nil {
		if err := c.refuse(outgoing); err != nil {
			return err
		}
	}
	_, phase, _ := keptn.ParseType(outgoing.Type())
	if !slices.Contains(c.published[phase], outgoing.ID()) {
		if c.published == nil {
			c.published = map[keptn.Phase][]string{}
		}
		c.published[phase] = append(c.published[phase], outgoing.ID())
	}
	c.sources = append(c.sources, outgoing.Source())
	at, known := c.taken[outgoing.ID()]
	switch {
	case known && time.Since(at) < c.deduplication:
	case c.drop > 0:
		c.drop--
	default:
		if c.taken == nil {
			c.taken = map[string]time.Time{}
		}
		c.taken[outgoing.ID()] = time.Now()
		lag := time.Duration(0)
		if c.lag != nil {
			lag = c.lag()
		}
		c.underWay = append(c.underWay, underWay{phase, time.Now().Add(lag)})
	}
	c.arrive()
	if c.lost > 0 {
		c.lost--
		return errDown
	}
	return nil
}

func (c *control) Count(context.Context, keptn.Task) (keptn.Count, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.questions++
	if c.fail > 0 {
		c.fail--
		return keptn.Count{}, &api.StatusError{Code: http.StatusBadGateway}
	}
	if c.pending > 0 {
		c.pending--
		return keptn.Count{Standing: keptn.Pending}, nil
	}
	c.arrive()
	return c.count(), nil
}

// arrive counts due events, unless the task is over.
func (c *control) arrive() {
	slices.SortStableFunc(c.underWay, func(one, other underWay) int { return one.at.Compare(other.at) })
	for len(c.underWay) > 0 && !time.Now().Before(c.underWay[0].at) {
		phase := c.underWay[0].phase
		c.underWay = c.underWay[1:]
		if c.count().Standing == keptn.Current && c.pending == 0 {
			c.counted = append(c.counted, phase)
		}
	}
}

func (c *control) count() keptn.Count {
	count := keptn.Count{Standing: c.standing, Archived: c.archived}
	for _, phase := range c.counted {
		switch phase {
		case keptn.Started:
			count.Started++
		case keptn.Finished:
			count.Finished++
		}
	}
	if count.Started > 0 && count.Started == count.Finished {
		count.Standing = keptn.Completed
	}
	return count
}

var reportedTask = keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v"}

const (
	testLoss   = 6 * time.Minute
	testFlight = 30 * time.Second
	testOrder  = time.Minute
)

func newTestReporter(c *control) *Reporter {
	timing := Timing{Loss: testLoss, Flight: testFlight, Order: testOrder, Interval: 50 * time.Millisecond, Limit: 3 * time.Second}
	if c.deduplication > 0 {
		timing.Deduplication = c.deduplication * 3 / 4
	}
	reporter := &Reporter{
		Sender: c, Counter: c, Archive: &archive{err: errDown}, Source: "our-source",
		Limit: NewSizeLimit(1000000, func() int { return 0 }, discard), Timing: timing,
		Tracer: noop.NewTracerProvider().Tracer(""), Now: time.Now, Metrics: &fixture.Metrics{}, Log: discard,
	}
	reporter.Begin()
	return reporter
}

// fresh returns a task that was triggered after the reporter began, so that no earlier bridge has sent events
// for it.
func fresh() keptn.Task {
	task := reportedTask
	task.TriggeredAt = time.Now().Add(2 * clockSkew)
	return task
}

func after(lag time.Duration) func() time.Duration { return func() time.Duration { return lag } }

// A new task is delivered once, and then every minute like jobsource and the Broker do, until it is settled or
// an hour is over.
func TestReporterDelivers(t *testing.T) {
	started := begins(reportedTask)
	finished := ends(reportedTask, keptn.Errored("no"))
	both := []keptn.Phase{keptn.Started, keptn.Finished}
	tests := []struct {
		name    string
		control *control
		events  []protocol.Answer
		want    []keptn.Phase
		// sends is how many events Keptn receives, 0 for as many as it counts.
		sends   int
		settled bool
	}{
		{
			name:    "started, then finished",
			control: &control{standing: keptn.Current},
			events:  []protocol.Answer{started, finished},
			want:    both,
			settled: true,
		},
		{
			name:    "each is sent once",
			control: &control{standing: keptn.Current},
			events:  []protocol.Answer{started, started, finished, finished, started},
			want:    both,
			settled: true,
		},
		{
			name:    "a finished event sends a missing started event first",
			control: &control{standing: keptn.Current},
			events:  []protocol.Answer{finished},
			want:    both,
			settled: true,
		},
		{
			name:    "an event counted late is not resent",
			control: &control{standing: keptn.Current, lag: after(5 * time.Second)},
			events:  []protocol.Answer{started, started, finished, finished},
			want:    both,
			settled: true,
		},
		{
			name:    "an event counted very late is not resent",
			control: &control{standing: keptn.Current, lag: after(5 * time.Minute)},
			events:  []protocol.Answer{started, started, finished, finished},
			want:    both,
			settled: true,
		},
		{
			name:    "a lost event is resent after the timeout",
			control: &control{standing: keptn.Current, drop: 1},
			events:  []protocol.Answer{started, finished},
			want:    both,
			sends:   3,
			settled: true,
		},
		{
			name:    "a lost finished event is resent",
			control: &control{standing: keptn.Current, counted: []keptn.Phase{keptn.Started}, drop: 1},
			events:  []protocol.Answer{finished},
			want:    both,
			sends:   2,
			settled: true,
		},
		{
			name:    "nothing is sent for a completed task",
			control: &control{standing: keptn.Completed},
			events:  []protocol.Answer{started, finished},
			settled: true,
		},
		{
			name:    "nothing is sent for an aborted task",
			control: &control{standing: keptn.Aborted},
			events:  []protocol.Answer{started, finished},
			settled: true,
		},
		{
			name:    "nothing is sent for an unknown task",
			control: &control{standing: keptn.Unknown},
			events:  []protocol.Answer{finished},
			settled: true,
		},
		{
			name:    "an event waits for the dispatch",
			control: &control{standing: keptn.Current, pending: 3},
			events:  []protocol.Answer{started, finished},
			want:    both,
			settled: true,
		},
		{
			name:    "nothing is sent to a paused sequence",
			control: &control{standing: keptn.Current, pending: 1 << 30},
			events:  []protocol.Answer{started},
		},
		{
			name:    "two counted started events need two finished events",
			control: &control{standing: keptn.Current, counted: []keptn.Phase{keptn.Started, keptn.Started}},
			events:  []protocol.Answer{finished},
			want:    []keptn.Phase{keptn.Started, keptn.Started, keptn.Finished, keptn.Finished},
			sends:   2,
			settled: true,
		},
		{
			name:    "two counted started events, one finished",
			control: &control{standing: keptn.Current, counted: []keptn.Phase{keptn.Started, keptn.Started, keptn.Finished}},
			events:  []protocol.Answer{finished},
			want:    []keptn.Phase{keptn.Started, keptn.Started, keptn.Finished, keptn.Finished},
			sends:   1,
			settled: true,
		},
		{
			name:    "Keptn is down",
			control: &control{standing: keptn.Current, fail: 5},
			events:  []protocol.Answer{started, finished},
			want:    both,
			sends:   7,
			settled: true,
		},
		{
			name:    "an event without an answer is not resent",
			control: &control{standing: keptn.Current, lost: 1, lag: after(time.Minute)},
			events:  []protocol.Answer{started, finished},
			want:    both,
			settled: true,
		},
		{
			name:    "an event without an answer is resent with deduplication",
			control: &control{standing: keptn.Current, lost: 1, deduplication: 2 * time.Minute, lag: after(time.Minute)},
			events:  []protocol.Answer{started, finished},
			want:    both,
			sends:   3,
			settled: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reporter := newTestReporter(test.control)
				// A run that ended after the reporter began.
				settled := deliverAll(t, reporter, test.events)
				if settled != test.settled {
					t.Errorf("settled: %v", settled)
				}
				if difference := cmp.Diff(test.want, test.control.counted); difference != "" {
					t.Errorf("counted (-want +got):\n%s", difference)
				}
				if test.control.fail > 0 || test.sends > 0 && test.control.sends > test.sends || test.sends == 0 && test.control.sends > len(test.want) {
					t.Errorf("Keptn was given %d events", test.control.sends)
				}
				for _, source := range test.control.sources {
					if source != "our-source" {
						t.Errorf("something was sent as %s", source)
					}
				}
			})
		})
	}
}

// A refused or unrecorded event is replaced once and then given up. It is not resent for ever.
func TestRefusedEventIsReplaced(t *testing.T) {
	const (
		tooHigh = "could not parse event: json: cannot unmarshal number 1e400 into Go value of type float64"
		pods    = ". The report is in the status of its pods: kubectl get pods --all-namespaces --selector keptn.sh/event-id=1"
	)
	refused := func(code int, message string) error {
		return &api.StatusError{Code: code, Message: message, Request: "POST /v1/event", Own: true}
	}
	refusal := func(says error) string {
		return "Keptn refused the result of this task: " + says.Error() + pods
	}
	if500 := func(outgoing event.Event) error {
		if _, phase, _ := keptn.ParseType(outgoing.Type()); phase == keptn.Finished && strings.Contains(string(outgoing.Data()), "all is well") {
			return refused(http.StatusInternalServerError, tooHigh)
		}
		return nil
	}
	tests := []struct {
		name    string
		control *control
		want    []string
		counted []keptn.Phase
		refusal string
	}{
		{
			name: "unparsable", control: &control{standing: keptn.Current, refuse: if500},
			want: []string{"", "all is well", refusal(refused(http.StatusInternalServerError, tooHigh))}, counted: []keptn.Phase{keptn.Started, keptn.Finished},
			refusal: refused(http.StatusInternalServerError, tooHigh).Error(),
		},
		{
			name: "everything is refused",
			control: &control{standing: keptn.Current, counted: []keptn.Phase{keptn.Started}, refuse: func(event.Event) error {
				return refused(http.StatusBadRequest, "no")
			}},
			want: []string{"all is well", refusal(refused(http.StatusBadRequest, "no"))}, counted: []keptn.Phase{keptn.Started},
			refusal: refused(http.StatusBadRequest, "no").Error(),
		},
		{
			name:    "never recorded",
			control: &control{standing: keptn.Current, counted: []keptn.Phase{keptn.Started}, drop: 1000},
			want:    slices.Concat(slices.Repeat([]string{"all is well"}, maxLost), slices.Repeat([]string{refusal(errLost)}, maxLost)),
			counted: []keptn.Phase{keptn.Started}, refusal: errLost.Error(),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reporter := newTestReporter(test.control)
				finished := ends(fresh(), keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: "all is well"})
				var delivery Delivery
				for range 600 {
					var err error
					if delivery, err = deliver(t, reporter, finished, time.Now().Add(2*clockSkew)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
				}
				if difference := cmp.Diff(test.want, test.control.sent); difference != "" {
					t.Errorf("sent (-want +got):\n%s", difference)
				}
				if difference := cmp.Diff(test.counted, test.control.counted); difference != "" {
					t.Errorf("counted (-want +got):\n%s", difference)
				}
				if !delivery.Settled || delivery.Refusal != test.refusal {
					t.Errorf("got %+v, want %q", delivery, test.refusal)
				}
			})
		})
	}
}

// Every delivery reports the abort, even if only the first one asks Keptn.
func TestReporterTellsThatATaskWasAborted(t *testing.T) {
	for standing, aborted := range map[keptn.Standing]bool{keptn.Aborted: true, keptn.Completed: false} {
		reporter := newTestReporter(&control{standing: standing})
		for range 2 {
			delivery, err := deliver(t, reporter, begins(reportedTask), time.Time{})
			if difference := cmp.Diff(Delivery{Settled: true, Aborted: aborted}, delivery); difference != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
		}
	}
}

// begins and ends are the answers of a task at noon.
func begins(task keptn.Task) protocol.Answer {
	return protocol.Answer{Task: task, Phase: keptn.Started, At: noon}
}

func ends(task keptn.Task, outcome keptn.Outcome) protocol.Answer {
	return protocol.Finished(task, noon, outcome, "")
}

// The first delivery polls for a moment. Each further one asks once, and polls again only after it has sent something.
func TestSlowKeptnIsAskedOnceForEachFurtherDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &control{standing: keptn.Current, lag: after(time.Minute)}
		reporter := newTestReporter(c)
		var asked []int
		answer := ends(fresh(), keptn.Errored("no"))
		for range 4 {
			before := c.questions
			if _, err := deliver(t, reporter, answer, time.Now()); err != nil {
				t.Fatal(err)
			}
			asked = append(asked, c.questions-before)
			time.Sleep(25 * time.Second)
		}
		// The fourth one finds the started event counted, and sends the finished one.
		if difference := cmp.Diff([]int{7, 1, 1, 7}, asked); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
	})
}

// deliver delivers the answer of a run that ended at some time.
func deliver(t *testing.T, reporter *Reporter, answer protocol.Answer, endedAt time.Time) (Delivery, error) {
	t.Helper()
	answer.EndedAt = endedAt
	return reporter.Deliver(t.Context(), answer)
}

// deliverAll delivers answers, each again every minute until Keptn needs none of them any more.
func deliverAll(t *testing.T, reporter *Reporter, answers []protocol.Answer) (settled bool) {
	t.Helper()
	triggeredAt := fresh().TriggeredAt
	for range 60 {
		for _, answer := range answers {
			answer.Task.TriggeredAt = triggeredAt
			delivery, err := deliver(t, reporter, answer, time.Now().Add(2*clockSkew))
			settled = err == nil && delivery.Settled
		}
		if settled {
			return true
		}
		time.Sleep(time.Minute)
	}
	return settled
}

// A new bridge does not know what an earlier one has sent.
func TestReporterWaitsOutWhatWasSentBeforeIt(t *testing.T) {
	tests := []struct {
		name          string
		triggered     time.Duration // before the reporter began
		deduplication time.Duration
		archive       Archive       // nil if it is away
		wait          time.Duration // until it sends
	}{
		{name: "a task older than the bridge", triggered: time.Minute, wait: testLoss},
		{name: "a task older than the bridge, if Keptn has an archive", triggered: time.Minute, archive: &archive{}, wait: testFlight},
		{name: "a task of unknown age", triggered: -1, wait: testLoss},
		{name: "a task triggered later", triggered: -time.Minute},
		{name: "an older task, within the deduplication window", triggered: time.Minute, deduplication: 2 * time.Minute},
		{name: "an older task, after the deduplication window", triggered: 3 * time.Minute, deduplication: 2 * time.Minute, wait: testLoss},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &control{standing: keptn.Current, deduplication: test.deduplication}
				task := reportedTask
				if test.triggered != -1 {
					task.TriggeredAt = time.Now().Add(-test.triggered)
				}
				reporter, began := newTestReporter(c), time.Now()
				if test.archive != nil {
					reporter.Archive = test.archive
				}
				// The answer itself tells when its task was triggered.
				for c.sends == 0 && time.Since(began) < time.Hour {
					if _, err := deliver(t, reporter, begins(task), time.Time{}); err != nil && !errors.Is(err, ErrHeld) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				if waited := time.Since(began); waited < test.wait || waited > test.wait+10*time.Second {
					t.Errorf("it waited %s, not %s", waited, test.wait)
				}
			})
		})
	}
}

// Events are repeated, reordered, counted late, and interrupted by failures and restarts. Requests of a killed
// bridge arrive later. Keptn's archive works in two of three schedules. If the caller repeats
// unsettled answers, Keptn counts as many finished as started events, and one of each unless it lost one.
func TestReporterNeverCountsTwice(t *testing.T) {
	const schedules = 3000
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(schedules) {
			schedule(t, seed)
		}
	})
}

// dying sends for a process that dies meanwhile: the event arrives later.
type dying struct {
	*control
	later time.Duration
}

func (d *dying) Send(ctx context.Context, outgoing event.Event) error {
	go func() {
		time.Sleep(d.later)
		_ = d.control.Send(context.WithoutCancel(ctx), outgoing)
	}()
	return errDown
}

func schedule(t *testing.T, seed uint64) {
	t.Helper()
	random, lags := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1)) // a dying process sends at the same time
	most := []time.Duration{1, 5 * time.Second, 5 * time.Minute}[random.IntN(3)]
	c := &control{
		standing: keptn.Current, drop: random.IntN(2), fail: random.IntN(4), lost: random.IntN(2), pending: random.IntN(3),
		lag: func() time.Duration { return time.Duration(lags.Int64N(int64(most))) },
	}
	if random.IntN(2) == 0 {
		c.deduplication = 2 * time.Minute
	}
	hasArchive := random.IntN(3) > 0
	begin := func() *Reporter {
		reporter := newTestReporter(c)
		if hasArchive {
			reporter.Archive = c
		}
		return reporter
	}
	reporter := begin()
	task := fresh()
	events := []protocol.Answer{begins(task), ends(task, keptn.Errored("no"))}
	for attempts := 0; ; attempts++ {
		const tooMany = 1000
		if attempts > tooMany {
			t.Fatalf("seed %d: it never ends: %v", seed, c.counted)
		}
		time.Sleep(time.Duration(random.Int64N(int64(30 * time.Second))))
		if attempts < tooMany/4 && random.IntN(20) == 0 {
			reporter.Sender = &dying{c, time.Duration(random.Int64N(int64(testFlight - time.Second)))}
			_, _ = deliver(t, reporter, events[random.IntN(len(events))], time.Time{})
			reporter = begin()
		}
		if delivery, err := deliver(t, reporter, events[random.IntN(len(events))], time.Time{}); err == nil && delivery.Settled {
			break
		}
	}
	if difference := cmp.Diff([]keptn.Phase{keptn.Started, keptn.Finished}, c.counted); difference != "" {
		t.Fatalf("seed %d: counted (-want +got):\n%s", seed, difference)
	}
}

// The transport forgets an earlier process' event before this one's (seed 597).
func TestReporterCountsDeduplicationFromTheFirstProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &control{standing: keptn.Current, deduplication: 2 * time.Minute, lag: after(4 * time.Minute)}
		before := newTestReporter(c)
		task := fresh()
		if _, err := deliver(t, before, begins(task), time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		reporter := newTestReporter(c)
		c.lost = 2
		for range 4 {
			_, _ = deliver(t, reporter, begins(task), time.Time{}) // the first two fail
			time.Sleep(35 * time.Second)
		}
		time.Sleep(10 * time.Minute)
		if _, err := deliver(t, reporter, begins(task), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff([]keptn.Phase{keptn.Started}, c.counted); difference != "" {
			t.Errorf("counted (-want +got):\n%s", difference)
		}
	})
}

// A slow Keptn is asked less often, not more.
func TestReporterAsksASlowKeptnLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &control{standing: keptn.Current, lag: after(time.Hour)}
		reporter := newTestReporter(c)
		if _, err := deliver(t, reporter, begins(fresh()), time.Time{}); err != nil {
			t.Fatal(err)
		}
		const most = 9
		if c.questions > most || c.sends != 1 {
			t.Errorf("%d questions, %d sends", c.questions, c.sends)
		}
	})
}

func TestWhatIsDroppedIsCounted(t *testing.T) {
	metrics := &fixture.Metrics{}
	c := &control{standing: keptn.Current}
	reporter := newTestReporter(c)
	reporter.Timing, reporter.Metrics = Timing{Interval: time.Second, Limit: time.Second}, metrics
	var sent []bool
	for range 3 {
		delivery, err := deliver(t, reporter, begins(reportedTask), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, delivery.Sent)
	}
	if difference := cmp.Diff([]bool{true, false, false}, sent); difference != "" {
		t.Errorf("sent (-want +got):\n%s", difference)
	}
	if difference := cmp.Diff([]string{"sent started", "dropped started", "dropped started"}, metrics.Records()); difference != "" {
		t.Errorf("measured (-want +got):\n%s", difference)
	}
}

func TestReporterDeliversOnceToManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &control{standing: keptn.Current}
		reporter := newTestReporter(c)
		task := fresh()
		var group sync.WaitGroup
		failures := make(chan error, 20)
		for index := range cap(failures) {
			group.Go(func() {
				outgoing := begins(task)
				if index%2 == 1 {
					outgoing = ends(task, keptn.Errored(fmt.Sprint(index)))
				}
				_, err := deliver(t, reporter, outgoing, time.Now().Add(2*clockSkew))
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
		if difference := cmp.Diff([]keptn.Phase{keptn.Started, keptn.Finished}, c.counted); difference != "" {
			t.Errorf("counted (-want +got):\n%s", difference)
		}
	})
}

// archive is mongodb-datastore.
type archive struct {
	published int
	err       error
	questions int
}

func (a *archive) Published(context.Context, keptn.Task, keptn.Phase) (int, error) {
	a.questions++
	return a.published, a.err
}

// A bridge resends an event of its predecessor if the archive lacks it, or after it is certainly lost.
func TestArchiveDecidesWhatAnEarlierBridgeHasSent(t *testing.T) {
	const long = 2 * time.Minute
	tests := []struct {
		name string
		// triggered and given are when the task was triggered and its answer delivered, counted from the bridge's
		// start.
		triggered, given time.Duration
		archive          archive
		deduplication    time.Duration
		sends, questions int
		held             error
	}{
		{name: "a request may still be under way", triggered: -time.Second, given: testFlight - 5*time.Second, held: ErrHeld},
		{name: "never published", triggered: -time.Second, given: testFlight, sends: 1, questions: 1},
		{name: "published", triggered: -time.Second, given: testFlight, archive: archive{published: 1}, questions: 1},
		{name: "the archive is away", triggered: -time.Second, given: testFlight, archive: archive{err: errDown}, questions: 6},
		{
			name: "the archive is away, and the event is certainly lost", triggered: -time.Second, given: testLoss,
			archive: archive{err: errDown}, sends: 1, questions: 1,
		},
		{name: "a new task", triggered: 2 * clockSkew, given: long, sends: 1, questions: 1},
		{name: "a new task, according to a clock that is wrong", triggered: time.Hour, given: long, archive: archive{published: 1}, questions: 1},
		{name: "a new task, while the archive is away", triggered: 2 * clockSkew, given: long, archive: archive{err: errDown}, sends: 1, questions: 1},
		{name: "a new task of an old bridge", triggered: 2 * testLoss, given: 2 * testLoss, sends: 1},
		{
			name: "the transport recognises a second one", triggered: -time.Second, given: testFlight / 2, deduplication: 2 * time.Minute,
			sends: 1, questions: 1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &control{standing: keptn.Current, deduplication: test.deduplication, lag: after(time.Hour)}
				reporter := newTestReporter(c)
				reporter.Archive = &test.archive
				task := reportedTask
				task.TriggeredAt = time.Now().Add(test.triggered)
				time.Sleep(test.given)
				if _, err := reporter.Deliver(t.Context(), begins(task)); !errors.Is(err, test.held) {
					t.Errorf("got %v, want %v", err, test.held)
				}
				if c.sends != test.sends || test.archive.questions != test.questions {
					t.Errorf("sent %d times after %d questions, want %d and %d", c.sends, test.archive.questions, test.sends, test.questions)
				}
			})
		})
	}
}

// An event without an acknowledgement is resent once its request has ended, if the archive lacks it.
func TestArchiveDecidesWhatARequestWithoutAnAnswerHasDone(t *testing.T) {
	for _, test := range []struct {
		name    string
		archive archive
		pause   time.Duration
		sends   int
	}{
		{name: "its request may still be under way", pause: testFlight / 2, sends: 1},
		{name: "never published", pause: testFlight, sends: 2},
		{name: "published", pause: testFlight, archive: archive{published: 1}, sends: 1},
		{name: "published, and certainly lost", pause: testLoss, archive: archive{published: 1}, sends: 2},
		{name: "the archive is away", pause: testFlight, archive: archive{err: errDown}, sends: 1},
		{name: "the archive is away, and the event is certainly lost", pause: testLoss, archive: archive{err: errDown}, sends: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &control{standing: keptn.Current, lag: after(time.Hour), lost: 1}
				reporter := newTestReporter(c)
				archive := test.archive
				reporter.Archive = &archive
				answer := begins(fresh())
				archive.published = 0
				if _, err := reporter.Deliver(t.Context(), answer); !errors.Is(err, errDown) {
					t.Errorf("got %v", err)
				}
				archive.published = test.archive.published
				time.Sleep(test.pause)
				if _, err := reporter.Deliver(t.Context(), answer); err != nil {
					t.Error(err)
				}
				if c.sends != test.sends {
					t.Errorf("sent %d times, want %d", c.sends, test.sends)
				}
			})
		})
	}
}

// Keptn handles its stream in order: if it has counted a later event and not this one, this one is lost.
func TestLaterEventProvesThatAnEarlierOneIsLost(t *testing.T) {
	for _, test := range []struct {
		name string
		// later is the pause before the other event, and pause that before the next delivery.
		later, pause time.Duration
		// archived is true if the other event is not known to shipyard-controller.
		archived bool
		sends    int
	}{
		{name: "at about the same time", later: reordering / 2, pause: testOrder, sends: 1},
		{name: "later, and just counted", later: reordering, pause: testOrder - 5*time.Second, sends: 1},
		{name: "later, and counted in the archive only", later: reordering, pause: testOrder, archived: true, sends: 1},
		{name: "later, and counted for a while", later: reordering, pause: testOrder, sends: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lossy := &control{standing: keptn.Current, drop: 1}
				reporter := newTestReporter(lossy)
				lost, other := fresh(), fresh()
				other.TriggeredID = "2"
				for _, delivery := range []struct {
					task    keptn.Task
					control *control
					after   time.Duration
				}{{lost, lossy, 0}, {other, &control{standing: keptn.Current, archived: test.archived}, test.later}, {lost, lossy, test.pause}} {
					time.Sleep(delivery.after)
					reporter.Sender, reporter.Counter = delivery.control, delivery.control
					if _, err := reporter.Deliver(t.Context(), begins(delivery.task)); err != nil {
						t.Fatal(err)
					}
				}
				if lossy.sends != test.sends {
					t.Errorf("sent %d times, want %d", lossy.sends, test.sends)
				}
			})
		})
	}
}

func TestLinkToTheTraceIsALabel(t *testing.T) {
	const pattern, link = "https://jaeger.example.com/trace/{traceID}", "https://jaeger.example.com/trace/4ed578f61e1e4a119b2e9a7111760f5b"
	labelled := task
	labelled.Labels = map[string]string{"build": "17"}
	for _, test := range []struct {
		name, pattern string
		task          keptn.Task
		reported      map[string]string
		want          map[string]string
	}{
		{
			name: "besides other links", pattern: pattern, task: labelled, reported: map[string]string{"a": "b"},
			want: map[string]string{"build": "17", "a": "b", "trace": link},
		},
		{name: "alone", pattern: pattern, task: task, want: map[string]string{"trace": link}},
		{name: "no link without an address", task: labelled, want: labelled.Labels},
	} {
		t.Run(test.name, func(t *testing.T) {
			reporter := newTestReporter(&control{})
			reporter.TraceURL = test.pattern
			answer := ends(test.task, keptn.Outcome{Labels: test.reported, Data: map[string]any{"number": json.Number("9007199254740993.0")}})
			outgoing, err := reporter.event(answer, 0, "", noon, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Labels map[string]string
				Number json.RawMessage
			}
			if err := outgoing.DataAs(&got); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, got.Labels); difference != "" || string(got.Number) != "9007199254740993.0" {
				t.Errorf("%s (-want +got):\n%s", got.Number, difference)
			}
			if answer.Outcome.Labels["trace"] != "" {
				t.Error("the answer was changed")
			}
		})
	}
}

// Each attempt is a span below that of the run. Only a final refusal marks it.
func TestEachAttemptIsASpan(t *testing.T) {
	refused := &api.StatusError{Code: http.StatusBadRequest, Own: true, Message: "no"}
	recorder := tracetest.NewSpanRecorder()
	reporter := newTestReporter(&control{})
	reporter.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("")
	for _, want := range []error{errDown, nil, refused} {
		reporter.Sender = answering{want}
		if err := reporter.sendFitting(t.Context(), begins(task), 0, "", noon); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	var got []string
	for _, span := range recorder.Ended() {
		got = append(got, fmt.Sprintf("%s below %s, %s, %d events", span.Name(), span.Parent().SpanID(), span.Status().Code, len(span.Events())))
	}
	of := "send test.started below " + telemetry.SpanID(task.TriggeredID).String()
	if difference := cmp.Diff([]string{of + ", Unset, 1 events", of + ", Unset, 0 events", of + ", Error, 0 events"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
