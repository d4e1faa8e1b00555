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

// Sink is where events go, as a SinkBinding says it (Knative Eventing, sink binding).
type Sink struct {
	// URL is the address.
	URL string `env:"K_SINK,notEmpty"`
	// Overrides are added to each event.
	Overrides Overrides `env:"K_CE_OVERRIDES"`
	// CACertificates are certificate authorities in PEM that are trusted besides the system's.
	CACertificates string `env:"K_CA_CERTS"`
}

// SinkTokenFile is where a SinkBinding mounts the token by which the sink knows its senders, if Knative's
// feature authentication-oidc is on (Knative Eventing, sourcesv1.SinkBinding.Do).
const SinkTokenFile = "/oidc/token"

// Overrides are the attributes, by their names, that a SinkBinding adds to each event
// (duckv1.CloudEventOverrides).
type Overrides map[string]string

// UnmarshalText reads them as the JSON of a SinkBinding; no text is none.
func (o *Overrides) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var told struct{ Extensions map[string]string }
	err := json.Unmarshal(text, &told)
	*o = told.Extensions
	return err
}

// Add returns an event with them.
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

// Sender returns a sender of events to it, which are counted. Its error is that no certificate can be read.
func (s Sink) Sender(transport http.RoundTripper, timeout time.Duration, events *telemetry.Counters) (*Sender, error) {
	if s.CACertificates != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(s.CACertificates)) {
			return nil, errors.New("environment variable K_CA_CERTS: it has no certificate in PEM")
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
