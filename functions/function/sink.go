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

// Authorities returns the system's certificate authorities, if it has any, and those of a text in PEM. It
// returns an error if the text has no certificate.
func Authorities(pem string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("no PEM certificate found")
	}
	return pool, nil
}

// Sender returns a sender to the sink. It returns an error if a certificate is invalid.
func (s Sink) Sender(transport http.RoundTripper, timeout time.Duration, events *telemetry.Counters) (*Sender, error) {
	if s.CACertificates != "" {
		roots, err := Authorities(s.CACertificates)
		if err != nil {
			return nil, fmt.Errorf("environment variable K_CA_CERTS: %w", err)
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
