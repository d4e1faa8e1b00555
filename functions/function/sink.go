package function

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/job-executor/job-executor/functions/telemetry"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Sink is the destination of events, as a SinkBinding sets it (Knative Eventing, sink binding).
type Sink struct {
	// URL is its address.
	URL string `env:"K_SINK,notEmpty"`
	// Overrides are added to each event.
	Overrides Overrides `env:"K_CE_OVERRIDES"`
	// CACertificates are PEM certificate authorities, trusted besides the system's.
	CACertificates string `env:"K_CA_CERTS"`
}

// SinkTokenFile is the token that a SinkBinding mounts if Knative's feature authentication-oidc is enabled
// (sourcesv1.SinkBinding.Do).
const SinkTokenFile = "/oidc/token"

// Overrides are attributes that a SinkBinding adds to each event (duckv1.CloudEventOverrides), by name.
type Overrides map[string]string

// UnmarshalText parses the JSON of a SinkBinding. Empty text has no overrides.
func (o *Overrides) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var parsed struct{ Extensions map[string]string }
	err := json.Unmarshal(text, &parsed)
	*o = parsed.Extensions
	return err
}

// Add returns the event with the overrides.
func (o Overrides) Add(outgoing event.Event) event.Event {
	if len(o) == 0 {
		return outgoing
	}
	outgoing = outgoing.Clone()
	for name, value := range o {
		outgoing.SetExtension(name, value)
	}
	return outgoing
}

// Sender returns a sender to the sink. It returns an error if a certificate is invalid.
func (s Sink) Sender(transport http.RoundTripper, timeout time.Duration, events *telemetry.Counters) (*Sender, error) {
	if s.CACertificates != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(s.CACertificates)) {
			return nil, errors.New("environment variable K_CA_CERTS: no PEM certificate found")
		}
		base, ok := transport.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("environment variable K_CA_CERTS: %T can't trust certificates", transport)
		}
		base = base.Clone()
		base.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		transport = base
	}
	client := &http.Client{Transport: transport, Timeout: timeout}
	return &Sender{URL: s.URL, Overrides: s.Overrides, TokenFile: SinkTokenFile, HTTP: client, Events: events}, nil
}
