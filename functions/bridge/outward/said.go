package outward

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

// said is what an error of sending an event tells about the event.
type said int

const (
	// taken: there is no error.
	taken said = iota
	// unclear: it may have arrived all the same.
	unclear
	// notTaken: it has not arrived, and may the next time.
	notTaken
	// tooLarge: it is larger than Keptn takes.
	tooLarge
	// refused: it never will be taken.
	refused
)

// saidOf reads what Keptn, its NATS or what stands before them said of an event: what
// is too large has many answers (recordings 52-oversize-http and 71-validation-on), and
// NATS' client says it by itself.
func saidOf(err error) said {
	var status *api.StatusError
	var network *net.OpError
	switch {
	case err == nil:
		return taken
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge
	case errors.As(err, &status):
		switch {
		case status.Code == http.StatusRequestEntityTooLarge,
			status.Code == http.StatusBadRequest && strings.Contains(status.Message, "too large"),
			status.Code == http.StatusInternalServerError && strings.Contains(status.Message, "maximum payload"):
			return tooLarge
		case status.Code == http.StatusBadRequest, status.Code == http.StatusUnprocessableEntity:
			return refused
		case status.Code < http.StatusInternalServerError, status.Own, status.Code == http.StatusServiceUnavailable:
			return notTaken
		}
	case errors.As(err, &network) && network.Op == "dial":
		return notTaken
	}
	return unclear
}
