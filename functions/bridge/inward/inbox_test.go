package inward

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/fixture"
)

// noRuns is where no run is known.
type noRuns struct{}

func (noRuns) IsThere(keptn.Task) bool { return false }

func newInbox(broker *fixture.Broker, counter *fixture.Counter) *Inbox {
	return &Inbox{
		Broker: broker, Counter: counter, Reporter: fixture.Starter(false), Subscriptions: subscribed(to("sh.keptn.event.test.triggered")),
		Runs: noRuns{}, Source: "ours", Resend: time.Minute, Tracer: noop.NewTracerProvider().Tracer(""), Now: time.Now, Log: discard,
	}
}

// oneRun is where each run is.
type oneRun struct{}

func (oneRun) IsThere(keptn.Task) bool { return true }

// What a listed event needs: each difference between what Keptn says, what is there and
// what was done has one answer.
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
		{"nobody has answered", current, false, false, remembered{}, noon, give},
		{"again, if nothing came of it", current, false, false, remembered{sent: 1}, noon, give},
		{"it is completed", completed, false, false, remembered{}, noon, leave},
		{"it was aborted", aborted, true, true, remembered{}, noon, leave},
		{"it is paused, or not dispatched", keptn.Count{Standing: keptn.Pending}, false, false, remembered{}, noon, lookAgain},
		{"Keptn does not know it", keptn.Count{}, false, false, remembered{}, noon, lookAgain},
		{"its run is there", running, true, true, remembered{sent: 1}, noon, goesOn},
		{"its run is there, and its started event lost", current, true, true, remembered{sent: 1}, noon, goesOn},
		{"a silent run is there", current, false, true, remembered{sent: 1}, noon, goesOn},
		{"we are done, and others are not", keptn.Count{Standing: keptn.Current, Started: 1, Finished: 1}, true, false, remembered{sent: 1}, noon, goesOn},
		{"nothing is heard of its run yet", running, true, false, remembered{sent: 1}, noon, giveTime},
		{"nothing is heard of it for long", running, true, false, asked, noon.Add(silence), askForResult},
		{"nor of one of which the started event is not counted", current, true, false, asked, noon.Add(silence), askForResult},
		{"two were started and one finished", keptn.Count{Standing: keptn.Current, Started: 2, Finished: 1}, false, false, asked, noon.Add(silence), askForResult},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := answer(test.count, test.started, test.isThere, test.entry, test.now); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The result of a task that was started, and of whose run nothing is heard, is asked
// for; it is never run again. After a while it is said why there may be none.
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
					if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil {
						t.Fatal(err)
					}
					if minute == 0 && test.named {
						inbox.Runs = oneRun{}
					}
					time.Sleep(time.Minute)
				}
				var reasoned []bool
				for _, taken := range broker.Taken {
					awaiting, err := run.NoticeOf(taken, run.AwaitedType)
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
		{"however often it is published", []event.Event{triggered(task), triggered(task)}, Published, current, []string{"1"}},
		{"or listed", []event.Event{triggered(task), triggered(task)}, Listed, current, []string{"1"}},
		{"not what is not subscribed to", []event.Event{triggered(other)}, Published, current, nil},
		{"not what is no triggered event", []event.Event{task.Started(noon)}, Published, current, nil},
		{"not before a paused sequence goes on", []event.Event{triggered(task)}, Listed, keptn.Count{Standing: keptn.Pending}, nil},
		{"not what we have started", []event.Event{triggered(task)}, Listed, running, nil},
		{"not what is over", []event.Event{triggered(task)}, Listed, completed, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broker := &fixture.Broker{}
			inbox := newInbox(broker, &fixture.Counter{Answer: test.count})
			for _, triggered := range test.events {
				if err := inbox.Take(t.Context(), triggered, test.origin); err != nil {
					t.Fatal(err)
				}
			}
			if difference := cmp.Diff(test.want, broker.IDs()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// What was listed before it was dispatched is taken when it is published.
func TestPublishedEventIsTakenAlthoughItWasListedTooEarly(t *testing.T) {
	broker := &fixture.Broker{}
	inbox := newInbox(broker, &fixture.Counter{Answer: keptn.Count{Standing: keptn.Pending}})
	for _, origin := range []Origin{Listed, Published} {
		if err := inbox.Take(t.Context(), triggered(task), origin); err != nil {
			t.Fatal(err)
		}
	}
	if difference := cmp.Diff([]string{"1"}, broker.IDs()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestInboxAddsAttributesAndLeavesTheRest(t *testing.T) {
	broker := &fixture.Broker{}
	sent := triggered(task)
	if err := newInbox(broker, &fixture.Counter{}).Take(t.Context(), sent, Published); err != nil {
		t.Fatal(err)
	}
	want := sent.Clone()
	for name, value := range map[string]string{"keptnproject": "p", "keptnstage": "s", "keptnservice": "v", "keptntask": "test"} {
		want.SetExtension(name, value)
	}
	if difference := cmp.Diff(want.String(), broker.Taken[0].String()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// What nobody starts is sent again, ever more seldom; what the Broker refused,
// at once.
func TestInboxSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fixture.Broker{Refuse: 1}
		counter := &fixture.Counter{Answer: keptn.Count{Standing: keptn.Current}}
		inbox := newInbox(broker, counter)
		if err := inbox.Take(t.Context(), triggered(task), Listed); !errors.Is(err, errDown) {
			t.Fatalf("got %v", err)
		}
		var sentAt []time.Duration
		began := time.Now()
		for range 10 * 60 {
			before := len(broker.Taken)
			if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil {
				t.Fatal(err)
			}
			if len(broker.Taken) > before {
				sentAt = append(sentAt, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		if difference := cmp.Diff([]time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute}, sentAt); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
		counter.Answer.Started = 1
		time.Sleep(time.Hour)
		if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil || len(broker.Taken) != 4 {
			t.Errorf("%v, %d sent", err, len(broker.Taken))
		}
	})
}
