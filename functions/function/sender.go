package function

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// Sender posts events to one address, for example a Broker's.
type Sender struct {
	URL  string
	HTTP *http.Client
}

// maxRefusalBytes is how much is read of the answer of a receiver that refuses.
const maxRefusalBytes = 1 << 10

// Send posts an event and returns nil after a 2xx. It does not repeat: who calls
// it knows when to.
func (sender *Sender) Send(ctx context.Context, outgoing event.Event) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, sender.URL, nil)
	if err != nil {
		return fmt.Errorf("making a request to %s: %w", sender.URL, err)
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&outgoing), request); err != nil {
		return fmt.Errorf("encoding event %s: %w", outgoing.ID(), err)
	}
	response, err := sender.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("posting event %s: %w", outgoing.ID(), err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxRefusalBytes))
	if err != nil {
		return fmt.Errorf("reading the answer to event %s: %w", outgoing.ID(), err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("%s answered event %s with %d: %s", sender.URL, outgoing.ID(), response.StatusCode, strings.TrimSpace(string(content)))
	}
	return nil
}
