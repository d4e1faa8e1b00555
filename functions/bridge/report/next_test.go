package report

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/protocol"
)

// The next step follows from Keptn's counts, the memory of the task, and the answer.
func TestNext(t *testing.T) {
	const now, old = 10 * time.Minute, -10 * time.Minute // the process began at noon
	at := func(since time.Duration) time.Time { return noon.Add(since) }
	counted := func(started, finished int) keptn.Count {
		return keptn.Count{Standing: keptn.Current, Started: started, Finished: finished}
	}
	justSent := sent{times: 1, first: at(now - time.Minute), last: at(now - time.Minute)}
	flying := sent{times: 1, first: at(now - testFlight + 1), last: at(now - testFlight + 1)}
	longSent := sent{times: 1, first: at(now - testLoss), last: at(now - testLoss)}
	failed := func(s sent) sent { s.failed = true; return s }
	more := func(s sent, before int) sent { s.before = before; return s }
	tests := []struct {
		name          string
		known         reported
		count         keptn.Count
		given         keptn.Phase
		deduplication time.Duration
		now           time.Duration
		handled       time.Time
		want          step
	}{
		{name: "completed", count: completed, given: keptn.Finished, want: over},
		{name: "aborted", count: aborted, given: keptn.Started, want: over},
		{name: "paused", count: keptn.Count{Standing: keptn.Pending}, given: keptn.Started, want: wait},
		{name: "Keptn does not know it", given: keptn.Started, want: wait},
		{name: "unknown for a while", known: reported{unknownSince: at(now - testLoss)}, given: keptn.Started, want: wait},
		{name: "unknown for too long", known: reported{unknownSince: at(now - testLoss - 1)}, given: keptn.Started, want: over},

		{name: "nothing was sent", count: current, given: keptn.Started, want: sendStarted},
		{name: "nothing was sent, and the run has ended", count: current, given: keptn.Finished, want: sendStarted},
		{name: "started is in flight", known: reported{started: justSent}, count: current, given: keptn.Started, want: wait},
		{name: "started is in flight, and the run has ended", known: reported{started: justSent}, count: current, given: keptn.Finished, want: wait},
		{name: "started is lost", known: reported{started: longSent}, count: current, given: keptn.Started, want: sendStarted},
		{
			name: "Keptn has counted an event of the same time", known: reported{started: justSent}, count: current, given: keptn.Started,
			handled: justSent.last.Add(reordering - 1), want: wait,
		},
		{
			name: "Keptn has counted a later event, so started is lost", known: reported{started: justSent}, count: current, given: keptn.Started,
			handled: justSent.last.Add(reordering), want: sendStarted,
		},
		{
			name: "started is lost, but the transport would drop a second one", known: reported{started: justSent}, count: current, given: keptn.Started,
			deduplication: time.Minute, handled: justSent.last.Add(reordering), want: wait,
		},
		{name: "started is counted", count: running, given: keptn.Started, want: enough},

		{name: "the run has ended", count: running, given: keptn.Finished, want: sendFinished},
		{name: "finished is in flight", known: reported{finished: justSent}, count: running, given: keptn.Finished, want: wait},
		{name: "finished is lost", known: reported{finished: longSent}, count: running, given: keptn.Finished, want: sendFinished},
		{name: "ours is counted, another's is not", count: counted(1, 1), given: keptn.Finished, want: over},
		{name: "two were started and one is finished", known: reported{finished: justSent}, count: counted(2, 1), given: keptn.Finished, want: sendFinished},
		{name: "the second finished is in flight", known: reported{finished: more(justSent, 1)}, count: counted(2, 1), given: keptn.Finished, want: wait},

		{
			name:  "an earlier bridge may have sent the event",
			known: reported{triggeredAt: at(old)},
			count: current,
			given: keptn.Started,
			now:   testFlight - 1,
			want:  wait,
		},
		{name: "the trigger time is unknown", count: current, given: keptn.Started, now: testFlight - 1, want: wait},
		{
			name:  "an earlier bridge cannot have sent the event",
			known: reported{triggeredAt: at(clockSkew + 1)},
			count: current,
			given: keptn.Started,
			now:   time.Minute,
			want:  sendStarted,
		},
		{
			name:  "within the tolerance for clocks",
			known: reported{triggeredAt: at(clockSkew)},
			count: current,
			given: keptn.Started,
			now:   testFlight - 1,
			want:  wait,
		},
		{
			name:  "the run ended after the start of this bridge",
			known: reported{triggeredAt: at(old), endedAt: at(clockSkew + 1)},
			count: running,
			given: keptn.Finished,
			now:   time.Minute,
			want:  sendFinished,
		},
		{
			name:  "the run ended before the start of this bridge",
			known: reported{triggeredAt: at(old), endedAt: at(0)}, count: running, given: keptn.Finished, now: testFlight - 1,
			want: wait,
		},
		{
			name:  "an end before its start is ignored",
			known: reported{triggeredAt: at(clockSkew + 1), endedAt: at(old)},
			count: running,
			given: keptn.Finished,
			now:   time.Minute,
			want:  sendFinished,
		},

		{
			name: "an earlier bridge's request has ended", known: reported{triggeredAt: at(old)}, count: current, given: keptn.Started, now: testFlight,
			want: sendStarted,
		},
		{
			name: "a failed request has ended", known: reported{triggeredAt: at(now), started: failed(justSent)}, count: current, given: keptn.Started,
			want: sendStarted,
		},
		{
			name:          "the transport recognizes a predecessor's event",
			known:         reported{triggeredAt: at(0)},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			now:           time.Minute,
			want:          sendStarted,
		},
		{
			name:          "the transport no longer recognizes the event",
			known:         reported{triggeredAt: at(-2 * time.Minute)},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			now:           testFlight - 1,
			want:          wait,
		},
		{
			name:          "a failed event is resent within the deduplication window",
			known:         reported{triggeredAt: at(now), started: failed(justSent)},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			want:          sendStarted,
		},
		{
			name:          "a failed event is resent at the end of the window",
			known:         reported{triggeredAt: at(now), started: failed(sent{times: 1, first: at(now - 90*time.Second + clockSkew + 1), last: at(now)})},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			want:          sendStarted,
		},
		{
			name:          "a failed event is not resent after the window",
			known:         reported{triggeredAt: at(now), started: failed(sent{times: 1, first: at(now - 90*time.Second + clockSkew), last: at(now)})},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			want:          wait,
		},
		{
			name:  "a failed event is not resent without deduplication",
			known: reported{triggeredAt: at(now), started: failed(flying)}, count: current, given: keptn.Started,
			want: wait,
		},
		{
			name:          "an event of a predecessor is not resent",
			known:         reported{triggeredAt: at(old), started: failed(flying)},
			count:         current,
			given:         keptn.Started,
			deduplication: 90 * time.Second,
			want:          wait,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.now == 0 {
				test.now = now
			}
			k := known{test.known, test.count, Timing{Loss: testLoss, Flight: testFlight, Deduplication: test.deduplication}, noon, at(test.now), test.handled}
			if got := next(k, test.given); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Errors of sending an event say whether it may have arrived.
func TestVerdicts(t *testing.T) {
	status := func(code int, own bool, message string) error {
		return fmt.Errorf("sending: %w", &api.StatusError{Code: code, Own: own, Message: message})
	}
	tests := []struct {
		name string
		err  error
		want verdict
	}{
		{name: "no error", want: accepted},
		{name: "Keptn was not reached", err: &net.OpError{Op: "dial", Err: errDown}, want: notAccepted},
		{name: "the connection broke", err: &net.OpError{Op: "read", Err: errDown}, want: unclear},
		{name: "anything else", err: errDown, want: unclear},
		{name: "Keptn's own failure", err: status(http.StatusInternalServerError, true, "no"), want: notAccepted},
		{name: "a proxy's failure", err: status(http.StatusInternalServerError, false, "no"), want: unclear},
		{name: "a proxy lost the answer", err: status(http.StatusBadGateway, false, "<html>"), want: unclear},
		{name: "a proxy that reached nobody", err: status(http.StatusServiceUnavailable, false, "<html>"), want: notAccepted},
		{name: "a wrong token", err: status(http.StatusUnauthorized, false, ""), want: notAccepted},
		{name: "too many requests", err: status(http.StatusTooManyRequests, false, ""), want: notAccepted},
		{name: "an invalid event", err: status(http.StatusBadRequest, true, "no data"), want: refused},
		{name: "an unprocessable event", err: status(http.StatusUnprocessableEntity, true, "no type"), want: refused},
		{name: "validation is on", err: status(http.StatusBadRequest, true, "http: request body too large"), want: tooLarge},
		{name: "a proxy's limit", err: status(http.StatusRequestEntityTooLarge, false, "<html>"), want: tooLarge},
		{name: "Keptn's NATS", err: status(http.StatusInternalServerError, true, "nats: maximum payload exceeded"), want: tooLarge},
		{name: "NATS", err: fmt.Errorf("publishing: %w", nats.ErrMaxPayload), want: tooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verdictOf(test.err); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	if verdictOf(errors.Join(errDown, nats.ErrMaxPayload)) != tooLarge {
		t.Error("it is not looked for in all errors")
	}
}

// An answer may lack the end of its run, and deliveries may be reordered.
func TestEarliestEndOfARunIsLearnt(t *testing.T) {
	entry := &reported{}
	for _, test := range []struct{ answered, want time.Time }{
		{}, {noon.Add(time.Minute), noon.Add(time.Minute)}, {noon, noon}, {time.Time{}, noon}, {noon.Add(time.Hour), noon},
	} {
		entry.learn(protocol.Answer{EndedAt: test.answered})
		if !entry.endedAt.Equal(test.want) {
			t.Errorf("after %s it is %s, want %s", test.answered, entry.endedAt, test.want)
		}
	}
}
