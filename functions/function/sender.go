package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"go.opentelemetry.io/otel/propagation"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// Sender posts events to one address, for example the Broker's.
type Sender struct {
	URL string
	// Overrides are added to each event.
	Overrides Overrides
	// TokenFile has the token for the Authorization header. It is read for every event, because Kubernetes
	// rotates it. If the file does not exist, no token is sent.
	TokenFile string
	HTTP      *http.Client
	// Events counts the sent events. It may be nil.
	Events *telemetry.Counters
}

// BrokerTimeout bounds a request to the Broker. A Broker over the in-memory channel answers only after the
// executor has started from zero and its reply has reached Keptn.
const BrokerTimeout = 3 * time.Minute

const (
	// maxRefusalBytes bounds the body of a refusal, and maxReplyBytes that of a reply.
	maxRefusalBytes = 1 << 10
	maxReplyBytes   = 4 << 20
)

// Send posts an event within the context's span. The error is nil after a 2xx. Send does not retry.
func (s *Sender) Send(ctx context.Context, outgoing event.Event) error {
	response, err := s.post(ctx, outgoing)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxRefusalBytes)); err != nil {
		return fmt.Errorf("read the answer to event %s: %w", outgoing.ID(), err)
	}
	return nil
}

// Request posts an event and returns the reply, nil for none. Its error is permanent if the receiver's was.
func (s *Sender) Request(ctx context.Context, outgoing event.Event) (*event.Event, error) {
	response, err := s.post(ctx, outgoing) //nolint:bodyclose // the message's end closes it
	if err != nil {
		return nil, err
	}
	message := cehttp.NewMessage(response.Header, http.MaxBytesReader(nil, response.Body, maxReplyBytes))
	defer func() { _ = message.Finish(nil) }()
	if message.ReadEncoding() == binding.EncodingUnknown {
		return nil, nil
	}
	reply, err := binding.ToEvent(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("read the reply to event %s: %w", outgoing.ID(), err)
	}
	return reply, nil
}

// post returns a successful response. The caller closes its body.
func (s *Sender) post(ctx context.Context, outgoing event.Event) (_ *http.Response, err error) {
	defer func() { s.Events.Sent(ctx, outgoing.Type(), ErrorType(err)) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("create a request to %s: %w", s.URL, err)
	}
	outgoing = s.Overrides.Add(telemetry.Sent(ctx, outgoing))
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header)) // for Knative's own spans
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&outgoing), request); err != nil {
		return nil, fmt.Errorf("encode event %s: %w", outgoing.ID(), err)
	}
	token, err := os.ReadFile(s.TokenFile)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the token for %s: %w", s.URL, err)
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("post event %s: %w", outgoing.ID(), err)
	}
	if response.StatusCode >= 200 && response.StatusCode <= 299 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxRefusalBytes))
	if err != nil {
		return nil, fmt.Errorf("read the answer to event %s: %w", outgoing.ID(), err)
	}
	err = fmt.Errorf("%s answered event %s with %d: %s", s.URL, outgoing.ID(), response.StatusCode, strings.TrimSpace(string(content)))
	if response.StatusCode == http.StatusBadRequest {
		return nil, Permanent(err)
	}
	return nil, err
}
