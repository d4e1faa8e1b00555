package outward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// answering is a sender that gives an error.
type answering struct{ err error }

func (answering answering) Send(context.Context, event.Event) error { return answering.err }

// What is remembered of an event that was sent decides when it may be sent again.
func TestWhatWasSentIsRemembered(t *testing.T) {
	refused := fmt.Errorf("sending: %w", &api.StatusError{Code: http.StatusBadRequest})
	const pause = time.Minute
	began := time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC) // of every bubble
	later := began.Add(pause)
	tests := []struct {
		name string
		// first and second are what Keptn answers; of counted it has counted some before.
		first, second error
		counted       [2]int
		want          sent
	}{
		{name: "it was counted, and is one more", counted: [2]int{0, 1}, want: sent{times: 1, before: 1, first: later, last: later}},
		{name: "it was taken and not counted, and so begins anew", want: sent{times: 1, first: later, last: later, lost: 1}},
		{name: "it may not have arrived, and so began when it was sent first", first: errDown, want: sent{times: 1, first: began, last: later}},
		{name: "nor may it then", first: errDown, second: errDown, want: sent{times: 1, first: began, last: later, failed: true}},
		{name: "it failed, and was counted all the same", first: errDown, counted: [2]int{0, 1}, want: sent{times: 1, before: 1, first: later, last: later}},
		{name: "what Keptn refuses is forgotten", first: refused, second: refused, want: sent{}},
		{name: "what it refuses then was sent before", second: refused, want: sent{times: 1, first: began, last: began}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got sent
				for index, answer := range []error{test.first, test.second} {
					if index > 0 {
						time.Sleep(pause)
					}
					reporter := newTestReporter(&control{})
					reporter.Sender = answering{answer}
					if err := reporter.send(t.Context(), keptn.Answer{Event: reportedTask.Started(noon)}, test.counted[index], &got); !errors.Is(err, answer) {
						t.Errorf("got %v", err)
					}
				}
				if !got.first.Equal(test.want.first) || !got.last.Equal(test.want.last) {
					t.Errorf("first %s and last %s, want %s and %s", got.first, got.last, test.want.first, test.want.last)
				}
				got.first, got.last, test.want.first, test.want.last = time.Time{}, time.Time{}, time.Time{}, time.Time{}
				if difference := cmp.Diff(fmt.Sprintf("%+v", test.want), fmt.Sprintf("%+v", got)); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		})
	}
}

// Once Keptn has counted it, its delivery is settled, and was this one's.
func TestDeliveryOfAFinishedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		control := &control{standing: keptn.Current}
		reporter := newTestReporter(control)
		delivery, err := deliver(t, reporter, fresh().Finished(noon, keptn.Errored("no")), time.Now().Add(2*clockSkew))
		if difference := cmp.Diff(Delivery{Sent: true, Settled: true}, delivery); difference != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, difference)
		}
	})
}

// A run that is named is there for a while, and for no longer.
func TestNamedRunIsThereForAWhile(t *testing.T) {
	runs := newRuns(nil, nil, nil)
	runs.add(task, noon)
	for later, want := range map[time.Duration]bool{0: true, namedFor - 1: true, namedFor: false} {
		runs.Now = func() time.Time { return noon.Add(later) }
		if got := runs.IsThere(task); got != want {
			t.Errorf("after %s: %t", later, got)
		}
	}
}

// asked fails, and keeps which tasks it was asked about.
type asked struct{ tasks []string }

func (asked *asked) Count(_ context.Context, task keptn.Task) (keptn.Count, error) {
	asked.tasks = append(asked.tasks, task.TriggeredID)
	return keptn.Count{}, errDown
}

// A Keptn that is down is not asked about each task, and each look begins with another one.
func TestLookEndsAfterAFewFailures(t *testing.T) {
	counter := &asked{}
	runs := newRuns(nil, open{}, nil)
	runs.Counter = counter
	other := task
	for index := range 10 {
		other.TriggeredID = strconv.Itoa(index)
		runs.Add(other)
	}
	for looks := range 10 {
		if err := runs.look(t.Context()); !errors.Is(err, errDown) || len(counter.tasks) != maxFailures*(looks+1) {
			t.Errorf("asked about %v, %v", counter.tasks, err)
		}
	}
	slices.Sort(counter.tasks)
	if got := slices.Compact(counter.tasks); len(got) != 10 {
		t.Errorf("asked about %v only", got)
	}
}

// Of an event as much stays as may be, whatever that is: its message is cut for each byte
// that is missing, and its labels go only once nothing of the message is left.
func TestEveryLimitIsKept(t *testing.T) {
	outgoing := finishedWith(strings.Repeat("x", 2000), map[string]string{"label": strings.Repeat("y", 500)})
	size := func(fitted event.Event) int {
		content, err := keptn.EncodeEvent(fitted)
		if err != nil {
			t.Fatal(err)
		}
		return len(content)
	}
	whole, bare := size(outgoing), size(finishedWith("", map[string]string{"label": strings.Repeat("y", 500)}))
	for limit := bare - 400; limit <= whole; limit++ {
		fitted, err := Fit(outgoing, limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := size(fitted); got > limit {
			t.Fatalf("of %d bytes it has %d", limit, got)
		}
		labels := strings.Contains(string(fitted.Data()), "yyy")
		if labels != (limit >= bare) {
			t.Fatalf("of %d bytes, of which %d are for all but the message, labels are there: %t", limit, bare, labels)
		}
		if limit == whole && size(fitted) != whole {
			t.Errorf("it was cut although it fits")
		}
	}
}

// Less than what Keptn's validation lets pass is not tried.
func TestRefusalOfTheSmallestEventIsFinal(t *testing.T) {
	for limit, sends := range map[int]int{validatedBytes: 1, validatedBytes + 1: 2} {
		refuse := &refusing{}
		err := NewSizeLimit(refuse, limit, func() int { return 0 }, discard).Send(t.Context(), finishedWith("x", nil))
		if err == nil || refuse.sends != sends {
			t.Errorf("of %d bytes it was sent %d times, %v", limit, refuse.sends, err)
		}
	}
}

// refusing takes no event, as too large.
type refusing struct{ sends int }

func (refusing *refusing) Send(context.Context, event.Event) error {
	refusing.sends++
	return &api.StatusError{Code: http.StatusRequestEntityTooLarge}
}
