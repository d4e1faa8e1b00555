package nats

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/intake"

	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/keptn"
)

// chartVersion is the NATS that the chart of Keptn 1.4.5 pins.
const chartVersion = "v2.9.11"

// natsServer returns the program of Keptn's NATS, compiled once per machine.
func natsServer(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(cache, "job-executor", "nats-server-"+chartVersion)
	program := filepath.Join(directory, "nats-server")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	install := exec.CommandContext(t.Context(), "go", "install", "github.com/nats-io/nats-server/v2@"+chartVersion)
	install.Dir = t.TempDir() // outside of this module
	install.Env = append(os.Environ(), "GOBIN="+directory, "GOFLAGS=", "CGO_ENABLED=0")
	if output, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return program
}

// Keptn's own NATS is old: it allows one filter subject per consumer.
func TestEventsAreExchangedWithTheNATSOfKeptnsChart(t *testing.T) {
	program := natsServer(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	server := exec.CommandContext(ctx, program, "-js", "-sd", t.TempDir(), "-a", "127.0.0.1", "-p", strconv.Itoa(port))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // it was killed
	})
	address := fmt.Sprintf("nats://127.0.0.1:%d", port)
	connection, err := nats.Connect(address, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	for !connection.IsConnected() {
		time.Sleep(10 * time.Millisecond)
	}
	if version := connection.ConnectedServerVersion(); "v"+version != chartVersion {
		t.Fatalf("it is version %s", version)
	}
	published := makeStream(t, address)
	transport, err := Connect(address, "job-executor-one", discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	received := &taker{fail: map[string]int{"2": 1}}
	receiving, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- transport.Receive(ctx, intake.Intake{Receiving: func() { close(receiving) }, Wants: isTriggered, Lanes: &intake.Lanes{}, Publish: received.publish})
	}()
	<-receiving
	for _, id := range []string{"1", "2"} {
		publishTo(t, published, task.Name, id)
		received.await(t, map[string][]string{"1": {"1 0"}, "2": {"1 0", "2 0", "2 1"}}[id]...)
	}
	// A duplicate is stored once, and our own events are not received.
	for range 2 {
		if err := transport.Send(t.Context(), task.Event(keptn.Started, noon, keptn.Outcome{})); err != nil {
			t.Fatal(err)
		}
	}
	information, err := published.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := information.CachedInfo().State.Msgs; got != 3 || transport.MaxBytes() <= 0 {
		t.Errorf("there are %d messages, and %d bytes are taken", got, transport.MaxBytes())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	received.await(t, "1 0", "2 0", "2 1")
}
