package report

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// answering is a sender that returns an error.
type answering struct{ err error }

func (a answering) Send(context.Context, event.Event) error { return a.err }

// The memory of a sent event decides when it may be resent.
func TestWhatWasSentIsRemembered(t *testing.T) {
	refused := fmt.Errorf("sending: %w", &api.StatusError{Code: http.StatusBadRequest})
	const pause = time.Minute
	began := time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC) // of every bubble
	later := began.Add(pause)
	tests := []struct {
		name string
		// first and second are Keptn's answers; counted is how many events it has counted before each.
		first, second error
		counted       [2]int
		want          sent
	}{
		{name: "a further event after a counted one", counted: [2]int{0, 1}, want: sent{times: 1, before: 1, first: later, last: later}},
		{name: "an accepted, uncounted event restarts the wait", want: sent{times: 1, first: later, last: later, lost: 1}},
		{name: "an event without an answer keeps its first time", first: errDown, want: sent{times: 1, first: began, last: later}},
		{
			name: "a second event without an answer keeps its first time", first: errDown, second: errDown,
			want: sent{times: 1, first: began, last: later, failed: true},
		},
		{name: "a failed event that was counted", first: errDown, counted: [2]int{0, 1}, want: sent{times: 1, before: 1, first: later, last: later}},
		{name: "a refused event is forgotten", first: refused, second: refused, want: sent{}},
		{name: "a refused event after an accepted one is kept", second: refused, want: sent{times: 1, first: began, last: began}},
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
					if err := reporter.send(t.Context(), begins(reportedTask), test.counted[index], &got); !errors.Is(err, answer) {
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

// A delivery is settled, and was sent, once Keptn has counted the event.
func TestDeliveryOfAFinishedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &control{standing: keptn.Current}
		reporter := newTestReporter(c)
		delivery, err := deliver(t, reporter, ends(fresh(), keptn.Errored("no")), time.Now().Add(2*clockSkew))
		if difference := cmp.Diff(Delivery{Sent: true, Settled: true}, delivery); difference != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, difference)
		}
	})
}

// The message is truncated by as many bytes as necessary. Labels are left out only if nothing of the message is
// left.
func TestEveryLimitIsKept(t *testing.T) {
	label := map[string]string{"label": strings.Repeat("y", 500)}
	reporter := newTestReporter(&control{})
	fit := func(message string, limit int) (fitted event.Event, size int) {
		fitted, err := reporter.event(finishedWith(message, label), 0, "", noon, limit)
		if err != nil {
			t.Fatal(err)
		}
		content, err := keptn.EncodeEvent(fitted)
		if err != nil {
			t.Fatal(err)
		}
		return fitted, len(content)
	}
	message := strings.Repeat("x", 2000)
	_, whole := fit(message, 1<<20)
	_, bare := fit("", 1<<20)
	for limit := bare - 400; limit <= whole; limit++ {
		fitted, size := fit(message, limit)
		if size > limit {
			t.Fatalf("of %d bytes it has %d", limit, size)
		}
		labels := strings.Contains(string(fitted.Data()), "yyy")
		if labels != (limit >= bare) {
			t.Fatalf("of %d bytes, of which %d are for all but the message, labels are there: %t", limit, bare, labels)
		}
		if limit == whole && size != whole {
			t.Errorf("cut although small enough")
		}
	}
}

// No event is made smaller than Keptn's validation requires.
func TestRefusalOfTheSmallestEventIsFinal(t *testing.T) {
	for limit, sends := range map[int]int{validatedBytes: 1, validatedBytes + 1: 2} {
		refuse, reporter := &refusing{}, newTestReporter(&control{})
		reporter.Sender, reporter.Limit = refuse, NewSizeLimit(limit, func() int { return 0 }, discard)
		err := reporter.sendFitting(t.Context(), finishedWith("x", nil), 0, "", noon)
		if err == nil || refuse.sends != sends {
			t.Errorf("of %d bytes it was sent %d times, %v", limit, refuse.sends, err)
		}
	}
}

// refusing refuses every event as too large.
type refusing struct{ sends int }

func (r *refusing) Send(context.Context, event.Event) error {
	r.sends++
	return &api.StatusError{Code: http.StatusRequestEntityTooLarge}
}
