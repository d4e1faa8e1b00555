package nats

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/intake"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/fixture"
)

// message is a message of NATS that records its answers with their times.
type message struct {
	jetstream.Msg
	content    []byte
	deliveries uint64
	began      time.Time

	mutex   sync.Mutex
	answers []string
}

func (m *message) answer(how string) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.answers = append(m.answers, how+" after "+time.Since(m.began).String())
	return nil
}

func (m *message) Data() []byte      { return m.content }
func (m *message) Subject() string   { return "sh.keptn.event.test.triggered" }
func (m *message) Ack() error        { return m.answer("ack") }
func (m *message) Term() error       { return m.answer("term") }
func (m *message) InProgress() error { return m.answer("in progress") }
func (m *message) NakWithDelay(delay time.Duration) error {
	return m.answer("nak for " + delay.String())
}

func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	if m.deliveries == 0 {
		return nil, errDown
	}
	return &jetstream.MsgMetadata{NumDelivered: m.deliveries}, nil
}

// NATS redelivers a message after AckWait without an answer.
func TestMessageIsAnsweredByWhatBecameOfItsEvent(t *testing.T) {
	content, err := keptn.EncodeEvent(triggered(task))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		content    string
		deliveries uint64
		takes      time.Duration
		err        error
		// want are the answers, and origin is the reported origin.
		want   []string
		origin intake.Origin
		// turn replaces a lane with a place.
		turn intake.Turn
	}{
		{name: "a published event is acknowledged", deliveries: 1, want: []string{"ack after 0s"}, origin: intake.Published},
		{
			name: "a slow publication extends the deadline", deliveries: 1, takes: 25 * time.Second,
			want: []string{"in progress after 10s", "in progress after 20s", "ack after 25s"}, origin: intake.Published,
		},
		{name: "a redelivered event counts as listed", deliveries: 2, want: []string{"ack after 0s"}, origin: intake.Listed},
		{name: "a delivery of unknown number counts as listed", want: []string{"ack after 0s"}, origin: intake.Listed},
		{name: "a failed publication is retried", deliveries: 1, err: errDown, want: []string{"nak for 1s after 0s"}, origin: intake.Published},
		{name: "pauses double", deliveries: 4, err: errDown, want: []string{"nak for 8s after 0s"}, origin: intake.Listed},
		{name: "pauses end at a minute", deliveries: 90, err: errDown, want: []string{"nak for 1m0s after 0s"}, origin: intake.Listed},
		{
			name: "waiting for a place extends the deadline, too", deliveries: 1, want: []string{"in progress after 10s", "ack after 15s"}, origin: intake.Published,
			turn: func(context.Context) (func(), bool) { time.Sleep(15 * time.Second); return func() {}, true },
		},
		{
			name: "an event without a place is for the next bridge", deliveries: 1, want: []string{"nak for 0s after 0s"},
			turn: func(context.Context) (func(), bool) { return nil, false },
		},
		{name: "an invalid message is dropped", content: "{", deliveries: 1, want: []string{"term after 0s"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				received := &message{content: content, deliveries: test.deliveries, began: time.Now()}
				if test.content != "" {
					received.content = []byte(test.content)
				}
				turn, ok := (&intake.Lanes{}).Queue("sh.keptn.event.test.triggered", len(content))
				if test.turn != nil {
					turn = test.turn
				}
				var origin intake.Origin
				transport := &Transport{log: discard}
				transport.receive(t.Context(), received, turn, func(_ context.Context, taken event.Event, from intake.Origin) error {
					if taken.ID() != task.TriggeredID {
						return errors.New("another event")
					}
					origin = from
					time.Sleep(test.takes)
					return test.err
				})
				if difference := cmp.Diff(test.want, received.answers); difference != "" || origin != test.origin || !ok {
					t.Errorf("taken for %v, answered (-want +got):\n%s", origin, difference)
				}
			})
		})
	}
}

// As much of NATS' payload as the headers leave.
func TestMaxBytesAreThoseOfNATS(t *testing.T) {
	for limit, want := range map[int32]int{1 << 20: 1<<20 - 4<<10, 1 << 10: 0} {
		_, address := fixture.StartNATS(
			t,
			&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPayload: limit, MaxControlLine: 512},
		)
		transport, err := Connect(address, "ours", discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(transport.connection.Close)
		for transport.connection.MaxPayload() == 0 { // it connects by itself
			time.Sleep(time.Millisecond)
		}
		if got := transport.MaxBytes(); got != want {
			t.Errorf("of %d bytes: %d", limit, got)
		}
	}
}
