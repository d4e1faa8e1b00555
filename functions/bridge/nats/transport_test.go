package nats

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/intake"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/fixture"
)

func withStream(directory string) *server.Options {
	return &server.Options{JetStream: true, StoreDir: directory}
}

func makeStream(t *testing.T, address string) jetstream.JetStream {
	t.Helper()
	connection, err := nats.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	created, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := created.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"sh.keptn.>"}}); err != nil {
		t.Fatal(err)
	}
	return created
}

// Characters that NATS does not allow are replaced.
func TestConsumerIsNamedByInstallation(t *testing.T) {
	for installation, want := range map[string]string{"job-executor-one": "job-executor-one", "a.b c-two": "a_b_c-two"} {
		if got := durableName(installation); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// taker records events. An id fails a given number of times.
type taker struct {
	mutex sync.Mutex
	fail  map[string]int
	taken []string
	block func()
}

func (tk *taker) publish(_ context.Context, triggered event.Event, origin intake.Origin) error {
	tk.mutex.Lock()
	defer tk.mutex.Unlock()
	if tk.block != nil {
		tk.block()
	}
	tk.taken = append(tk.taken, fmt.Sprintf("%s %d", triggered.ID(), origin))
	if tk.fail[triggered.ID()] > 0 {
		tk.fail[triggered.ID()]--
		return errDown
	}
	return nil
}

func (tk *taker) await(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		tk.mutex.Lock()
		difference := cmp.Diff(want, tk.taken)
		tk.mutex.Unlock()
		if difference == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("taken (-want +got):\n%s", difference)
		}
		time.Sleep(time.Millisecond)
	}
}

// publishTo publishes the triggered event of a task, as Keptn does.
func publishTo(t *testing.T, published jetstream.JetStream, name, id string) {
	t.Helper()
	created := task
	created.Name, created.TriggeredID = name, id
	content, err := keptn.EncodeEvent(triggered(created))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := published.Publish(t.Context(), keptn.TypeOf(name, keptn.Triggered), content); err != nil {
		t.Fatal(err)
	}
}

// awaitConsumer waits until the transport's consumer is in a state.
func awaitConsumer(t *testing.T, published jetstream.JetStream, transport *Transport, is func(*jetstream.ConsumerInfo) bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		consumer, err := published.Consumer(t.Context(), stream, transport.durable)
		if err == nil && is(consumer.CachedInfo()) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the consumer is in another state: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func isTriggered(eventType string) bool { return strings.HasSuffix(eventType, ".triggered") }

func TestEventsAreReceivedWhateverBecomesOfTheStream(t *testing.T) {
	running, address := fixture.StartNATS(t, withStream(t.TempDir()))
	published := makeStream(t, address)
	transport, err := Connect(address, "job-executor-one", discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	received := &taker{fail: map[string]int{"2": 1}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- transport.Receive(ctx, intake.Intake{Receiving: func() {}, Wants: isTriggered, Lanes: &intake.Lanes{}, Publish: received.publish})
	}()
	consuming := func() {
		t.Helper()
		awaitConsumer(t, published, transport, func(consumer *jetstream.ConsumerInfo) bool { return consumer.NumWaiting > 0 })
	}
	publish := func(name, id string) {
		t.Helper()
		publishTo(t, published, name, id)
	}

	consuming()
	publish("test", "1")
	received.await(t, "1 0")
	publish("test", "2")
	received.await(t, "1 0", "2 0", "2 1") // refused, and so redelivered

	publish("release", "3")
	received.await(t, "1 0", "2 0", "2 1", "3 0")

	// Keptn's NATS restarts without its storage.
	port := running.Addr().(*net.TCPAddr).Port
	running.Shutdown()
	running.WaitForShutdown()
	options := withStream(t.TempDir())
	options.Port = port
	_, address = fixture.StartNATS(t, options)
	published = makeStream(t, address)
	consuming()
	publish("test", "4")
	received.await(t, "1 0", "2 0", "2 1", "3 0", "4 0")

	// Events in flight are finished at the end.
	release, begun := make(chan struct{}), make(chan struct{})
	received.mutex.Lock()
	received.block = func() { close(begun); <-release }
	received.mutex.Unlock()
	publish("test", "5")
	<-begun
	cancel()
	select {
	case err := <-done:
		t.Errorf("ended before the events under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	received.await(t, "1 0", "2 0", "2 1", "3 0", "4 0", "5 0")
}

// receiving starts NATS, and a transport that receives until the test ends.
func receiving(t *testing.T, publish intake.Publish) (jetstream.JetStream, *Transport) {
	t.Helper()
	_, address := fixture.StartNATS(t, withStream(t.TempDir()))
	published := makeStream(t, address)
	transport, err := Connect(address, "job-executor-one", discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		in := intake.Intake{Receiving: sync.OnceFunc(func() { close(ready) }), Wants: isTriggered, Lanes: &intake.Lanes{}, Publish: publish}
		done <- transport.Receive(ctx, in)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return published, transport
}

// More events than a lane has places are published one after the other, each at its first delivery: a redelivered
// one would come after a pause that doubles.
func TestBurstIsNotSentBack(t *testing.T) {
	const burst = 5 * intake.ConcurrentSends
	full, entered, origins := make(chan struct{}), make(chan struct{}, burst), make(chan intake.Origin, burst)
	published, transport := receiving(t, func(_ context.Context, _ event.Event, origin intake.Origin) error {
		entered <- struct{}{}
		<-full
		origins <- origin
		return nil
	})
	for index := range burst {
		publishTo(t, published, "test", fmt.Sprint(index))
	}
	for range intake.ConcurrentSends {
		<-entered
	}
	awaitConsumer(t, published, transport, func(consumer *jetstream.ConsumerInfo) bool { return consumer.NumAckPending == burst })
	close(full)
	for range burst {
		if origin := <-origins; origin != intake.Published {
			t.Fatal("an event was redelivered")
		}
	}
}

// JetStream stops delivering when a consumer has too many unacknowledged events, by default 1,000, whatever their
// type (F63).
func TestFailingEventsOfOneTypeDelayNoOther(t *testing.T) {
	failed, taken := make(chan struct{}, 1<<20), make(chan struct{})
	published, _ := receiving(t, func(_ context.Context, triggered event.Event, _ intake.Origin) error {
		if triggered.Type() == keptn.TypeOf("good", keptn.Triggered) {
			close(taken)
			return nil
		}
		failed <- struct{}{}
		return errDown
	})
	const failing = 1200
	for index := range failing {
		publishTo(t, published, "bad", fmt.Sprint("bad-", index))
	}
	<-failed
	publishTo(t, published, "good", "good")
	select {
	case <-taken:
	case <-time.After(30 * time.Second):
		t.Error("an event of another type was not taken")
	}
}
