package function

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A SinkBinding sets the address, attributes of each event, and certificate authorities.
func TestEventsGoWhereASinkBindingSays(t *testing.T) {
	var got event.Event
	handle := func(_ context.Context, received event.Event) (*event.Event, error) {
		got = received
		return nil, nil
	}
	server := httptest.NewTLSServer(Receiver(handle, 1000, signals(tracetest.NewSpanRecorder())))
	defer server.Close()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	tests := []struct {
		name, overrides, certificates, err string
		want                               map[string]any
	}{
		{name: "with attributes", overrides: `{"extensions":{"team":"shop"}}`, certificates: certificate, want: map[string]any{"team": "shop"}},
		{name: "without", certificates: certificate},
		{name: "an untrusted sink is refused", err: "certificate signed by unknown authority"},
		{name: "invalid certificates", certificates: "none", err: "environment variable K_CA_CERTS: no PEM certificate found"},
		{name: "invalid attributes", overrides: "none", err: "environment variable K_CE_OVERRIDES: invalid character"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got = event.Event{}
			sink, err := Configure[Sink](map[string]string{"K_SINK": server.URL, "K_CE_OVERRIDES": test.overrides, "K_CA_CERTS": test.certificates})
			var sender *Sender
			if err == nil {
				sender, err = sink.Sender(http.DefaultTransport, 10*time.Second, nil)
			}
			if err == nil {
				err = sender.Send(t.Context(), *reply())
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if difference := cmp.Diff(test.want, got.Extensions()); err != nil || difference != "" {
				t.Errorf("%v, attributes (-want +got):\n%s", err, difference)
			}
		})
	}
	if _, err := Configure[Sink](nil); err == nil || err.Error() != "environment variable K_SINK: required" {
		t.Errorf("got %v", err)
	}
	sink := Sink{URL: server.URL, CACertificates: certificate}
	if _, err := sink.Sender(http.NewFileTransport(http.Dir(".")), time.Second, nil); err == nil || !strings.Contains(err.Error(), "K_CA_CERTS") {
		t.Errorf("got %v", err)
	}
}

// A SinkBinding mounts a token if Knative authenticates senders, and rotates it.
func TestSenderShowsItsToken(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		got = append(got, request.Header.Get("Authorization"))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	sender := &Sender{URL: server.URL, TokenFile: file, HTTP: server.Client()}
	for _, content := range []string{"", "first", "second\n"} {
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := sender.Send(t.Context(), *reply()); err != nil {
			t.Fatal(err)
		}
	}
	if difference := cmp.Diff([]string{"", "Bearer first", "Bearer second"}, got); difference != "" {
		t.Errorf("Authorization (-want +got):\n%s", difference)
	}
	sender.TokenFile = t.TempDir()
	if err := sender.Send(t.Context(), *reply()); err == nil || !strings.Contains(err.Error(), "read the token for "+server.URL) {
		t.Errorf("got %v", err)
	}
}
