package intake

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/test/fixture"
)

// noRuns is where no run is known.
type noRuns struct{}

func (noRuns) IsThere(keptn.Task) bool { return false }

func newInbox(broker protocol.Sender, counter keptn.Counter) *Inbox {
	return &Inbox{
		Metrics: &fixture.Metrics{},
		Broker:  broker, Counter: counter, Reporter: fixture.Starter(false), Subscriptions: subscribed(to("sh.keptn.event.test.triggered")),
		Runs: noRuns{}, Source: "ours", Resend: time.Minute, Tracer: noop.NewTracerProvider().Tracer(""), Now: time.Now, Log: discard,
	}
}

// oneRun is where each run is.
type oneRun struct{}

func (oneRun) IsThere(keptn.Task) bool { return true }

// Every combination of Keptn's counts, existing Jobs and memory has one answer.
func TestAnswer(t *testing.T) {
	asked := remembered{sent: 1, silentSince: noon}
	tests := []struct {
		name             string
		count            keptn.Count
		started, isThere bool
		entry            remembered
		now              time.Time
		want             wanted
	}{
		{name: "nobody has answered", count: current, entry: remembered{}, now: noon, want: publishNow},
		{name: "nobody has answered the second time", count: current, entry: remembered{sent: 1}, now: noon, want: publishNow},
		{name: "completed", count: completed, entry: remembered{}, now: noon, want: leave},
		{name: "aborted", count: aborted, started: true, isThere: true, entry: remembered{}, now: noon, want: leave},
		{
			name:  "paused, or not dispatched",
			count: keptn.Count{Standing: keptn.Pending},
			entry: remembered{},
			now:   noon,
			want:  checkSoon,
		},
		{name: "unknown to Keptn", count: keptn.Count{}, entry: remembered{}, now: noon, want: checkSoon},
		{name: "its run exists", count: running, started: true, isThere: true, entry: remembered{sent: 1}, now: noon, want: keep},
		{
			name:    "its run exists, and its started event is lost",
			count:   current,
			started: true,
			isThere: true,
			entry:   remembered{sent: 1},
			now:     noon,
			want:    keep,
		},
		{name: "a silent run exists", count: current, isThere: true, entry: remembered{sent: 1}, now: noon, want: keep},
		{
			name:    "ours finished, others did not",
			count:   keptn.Count{Standing: keptn.Current, Started: 1, Finished: 1},
			started: true,
			entry:   remembered{sent: 1},
			now:     noon,
			want:    keep,
		},
		{name: "its run was silent for a short time", count: running, started: true, entry: remembered{sent: 1}, now: noon, want: awaitRun},
		{name: "its run was silent for too long", count: running, started: true, entry: asked, now: noon.Add(silence), want: requestResult},
		{
			name:    "its run was silent, and its started event is not counted",
			count:   current,
			started: true,
			entry:   asked,
			now:     noon.Add(silence),
			want:    requestResult,
		},
		{
			name:  "two were started and one finished",
			count: keptn.Count{Standing: keptn.Current, Started: 2, Finished: 1},
			entry: asked,
			now:   noon.Add(silence),
			want:  requestResult,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := answer(test.count, test.started, test.isThere, test.entry, test.now); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The result of a silent run is requested. The run is never repeated. After a while the request says why there
// may be no Job.
func TestResultOfASilentRunIsAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		named bool
		want  []bool
	}{
		"its run is named": {true, nil},
		"it has none":      {false, []bool{false, false, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &fixture.Broker{}
				inbox := newInbox(broker, &fixture.Counter{Answer: running})
				for minute := range 25 {
					if err := inbox.Publish(t.Context(), triggered(task), Listed); err != nil {
						t.Fatal(err)
					}
					if minute == 0 && test.named {
						inbox.Runs = oneRun{}
					}
					time.Sleep(time.Minute)
				}
				var reasoned []bool
				for _, taken := range broker.Taken {
					awaiting, err := protocol.NoticeOf(taken, protocol.AwaitedType)
					if err != nil {
						t.Fatal(err)
					}
					reasoned = append(reasoned, awaiting.Reason != "")
				}
				if difference := cmp.Diff(test.want, reasoned); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		})
	}
}

func TestInboxTakesAnEventOnce(t *testing.T) {
	other := task
	other.Name = "release"
	tests := []struct {
		name   string
		events []event.Event
		origin Origin
		count  keptn.Count
		want   []string
	}{
		{
			name:   "published several times",
			events: []event.Event{triggered(task), triggered(task)},
			origin: Published,
			count:  current,
			want:   []string{"1"},
		},
		{name: "listed several times", events: []event.Event{triggered(task), triggered(task)}, origin: Listed, count: current, want: []string{"1"}},
		{name: "an unsubscribed event is ignored", events: []event.Event{triggered(other)}, origin: Published, count: current},
		{name: "a started event is ignored", events: []event.Event{task.Event(keptn.Started, noon, keptn.Outcome{})}, origin: Published, count: current},
		{
			name:   "a paused sequence waits",
			events: []event.Event{triggered(task)},
			origin: Listed,
			count:  keptn.Count{Standing: keptn.Pending},
		},
		{name: "a started task is not published again", events: []event.Event{triggered(task)}, origin: Listed, count: running},
		{name: "a completed task is ignored", events: []event.Event{triggered(task)}, origin: Listed, count: completed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broker := &fixture.Broker{}
			inbox := newInbox(broker, &fixture.Counter{Answer: test.count})
			for _, triggered := range test.events {
				if err := inbox.Publish(t.Context(), triggered, test.origin); err != nil {
					t.Fatal(err)
				}
			}
			if difference := cmp.Diff(test.want, broker.IDs()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// An event is published although it was listed before Keptn dispatched its task.
func TestPublishedEventIsTakenAlthoughItWasListedTooEarly(t *testing.T) {
	broker := &fixture.Broker{}
	inbox := newInbox(broker, &fixture.Counter{Answer: keptn.Count{Standing: keptn.Pending}})
	for _, origin := range []Origin{Listed, Published} {
		if err := inbox.Publish(t.Context(), triggered(task), origin); err != nil {
			t.Fatal(err)
		}
	}
	if difference := cmp.Diff([]string{"1"}, broker.IDs()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestInboxAddsAttributesAndLeavesTheRest(t *testing.T) {
	for name, own := range map[string][]string{"a task with an executor of its own": {"deployment", "test"}, "any other task": {"deployment"}} {
		t.Run(name, func(t *testing.T) {
			broker := &fixture.Broker{}
			sent := triggered(task)
			inbox := newInbox(broker, &fixture.Counter{})
			inbox.OwnExecutors = own
			if err := inbox.Publish(t.Context(), sent, Published); err != nil {
				t.Fatal(err)
			}
			want := sent.Clone()
			attributes := map[string]string{"keptnproject": "p", "keptnstage": "s", "keptnservice": "v", "keptntask": "test", "triggeredwithin": "none"}
			if len(own) == 1 {
				attributes["receiver"] = "executor-custom"
			}
			for name, value := range attributes {
				want.SetExtension(name, value)
			}
			if difference := cmp.Diff(want.String(), broker.Taken[0].String()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// An event that triggers no task is published once, with a type of its own, and only if it is subscribed to.
func TestInboxGivesWhatWasObserved(t *testing.T) {
	broker := &fixture.Broker{Refuse: 1}
	inbox := newInbox(broker, &fixture.Counter{Answer: completed})
	inbox.Subscriptions = subscribed(to("sh.keptn.event.*.finished"))
	finished := task.Event(keptn.Finished, noon, keptn.Errored("no"))
	if err := inbox.Publish(t.Context(), finished, Published); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	inbox.Now = func() time.Time { return time.Now().Add(firstBackoff) }
	for _, seen := range []event.Event{finished, finished, task.Event(keptn.Started, noon, keptn.Outcome{})} {
		if err := inbox.Publish(t.Context(), seen, Listed); err != nil {
			t.Fatal(err)
		}
	}
	want := finished.Clone()
	want.SetID(finished.ID() + "-observed")
	want.SetType("io.github.job-executor.event.observed")
	for name, value := range map[string]string{
		"observedtype": "sh.keptn.event.test.finished", "keptnproject": "p", "keptnstage": "s", "keptnservice": "v", "keptntask": "test.finished",
		"triggeredwithin": "none",
	} {
		want.SetExtension(name, value)
	}
	if len(broker.Taken) != 1 {
		t.Fatalf("the Broker got %v", broker.Taken)
	}
	if difference := cmp.Diff(want.String(), broker.Taken[0].String()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// An event that nobody starts is published again after growing pauses; one that the Broker refused, after a
// second.
func TestInboxSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fixture.Broker{Refuse: 1}
		counter := &fixture.Counter{Answer: keptn.Count{Standing: keptn.Current}}
		inbox := newInbox(broker, counter)
		if err := inbox.Publish(t.Context(), triggered(task), Listed); !errors.Is(err, errDown) {
			t.Fatalf("got %v", err)
		}
		var sentAt []time.Duration
		began := time.Now()
		for range 10 * 60 {
			before := len(broker.Taken)
			if err := inbox.Publish(t.Context(), triggered(task), Listed); err != nil && !errors.Is(err, function.ErrBackoff) {
				t.Fatal(err)
			}
			if len(broker.Taken) > before {
				sentAt = append(sentAt, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		want := []time.Duration{time.Second, time.Minute + time.Second, 3*time.Minute + time.Second, 7*time.Minute + time.Second}
		if difference := cmp.Diff(want, sentAt); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
		counter.Answer.Started = 1
		time.Sleep(time.Hour)
		if err := inbox.Publish(t.Context(), triggered(task), Listed); err != nil || len(broker.Taken) != 4 {
			t.Errorf("%v, %d sent", err, len(broker.Taken))
		}
	})
}

// unreachable is a Broker that accepts no connection.
type unreachable struct{ posts int }

func (u *unreachable) Send(context.Context, event.Event) error {
	u.posts++
	return &url.Error{Op: "Post", Err: errDown}
}

// An unreachable Broker gets four tries a minute, however many events wait, and Keptn as few questions.
func TestInboxBacksOffFromABrokenNeighbour(t *testing.T) {
	for name, test := range map[string]struct {
		broker      protocol.Sender
		events      int
		posts, asks int
	}{
		"the Broker cannot be reached":          {&unreachable{}, 500, 45, 500 * 46},
		"the executor fails":                    {&fixture.Broker{Refuse: 1 << 30}, 1, 16, 16},
		"Keptn cannot be asked about the event": {&fixture.Broker{}, 1, 0, 16},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counter := &counting{fails: name == "Keptn cannot be asked about the event"}
				inbox := newInbox(test.broker, counter)
				posts := 0
				for range 10 * 60 {
					for index := range test.events {
						created := task
						created.TriggeredID = strconv.Itoa(index)
						err := inbox.Publish(t.Context(), triggered(created), Listed)
						if err == nil {
							t.Fatal("it was taken")
						}
						if !errors.Is(err, function.ErrBackoff) && !counter.fails {
							posts++
						}
					}
					time.Sleep(time.Second)
				}
				if posts > test.posts || posts < test.posts/2 || counter.asked > test.asks {
					t.Errorf("%d posts and %d questions in ten minutes", posts, counter.asked)
				}
			})
		})
	}
}

// counting counts questions.
type counting struct {
	asked int
	fails bool
}

func (c *counting) Count(context.Context, keptn.Task) (keptn.Count, error) {
	c.asked++
	if c.fails {
		return keptn.Count{}, errDown
	}
	return current, nil
}

// A name that is invalid in a header causes one answer, and the event is never offered again.
func TestEventThatCannotBePublishedIsAnswered(t *testing.T) {
	inbox := newInbox(&fixture.Broker{}, &fixture.Counter{Answer: current})
	var answered []string
	inbox.Fail = func(_ context.Context, task keptn.Task, why string) error {
		answered = append(answered, task.TriggeredID+": "+why)
		return nil
	}
	odd := task
	odd.Stage = "produc\ntion"
	for range 3 {
		if err := inbox.Publish(t.Context(), triggered(odd), Listed); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{`1: Job Executor cannot run this task: the name of its stage contains a control character: "produc\ntion". Rename it and run the ` +
		`sequence again.`}
	if difference := cmp.Diff(want, answered); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// An undispatched event is checked after growing pauses.
func TestLooksBecomeSeldom(t *testing.T) {
	inbox := &Inbox{
		Metrics: &fixture.Metrics{}, Now: func() time.Time { return noon }}
	var entry remembered
	var pauses []time.Duration
	for range 10 {
		if err := inbox.do(t.Context(), checkSoon, task, triggered(task), &entry); err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, entry.nextCheck.Sub(noon))
	}
	const first = 200 * time.Millisecond
	want := []time.Duration{
		first, 2 * first, 4 * first, 8 * first, 16 * first, 32 * first, 64 * first, 128 * first, 30 * time.Second, 30 * time.Second,
	}
	if difference := cmp.Diff(want, pauses); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestBackoffDoublesUpToAMinute(t *testing.T) {
	var got []time.Duration
	for failures := range uint64(8) {
		got = append(got, Backoff(failures+1))
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}
