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
	status, answered := errors.AsType[*api.StatusError](err)
	network, unreached := errors.AsType[*net.OpError](err)
	switch {
	case err == nil:
		return taken
	case errors.Is(err, nats.ErrMaxPayload),
		answered && status.Code == http.StatusRequestEntityTooLarge,
		answered && status.Code == http.StatusBadRequest && strings.Contains(status.Message, "too large"),
		answered && status.Code == http.StatusInternalServerError && strings.Contains(status.Message, "maximum payload"):
		return tooLarge
	case answered && (status.Code == http.StatusBadRequest || status.Code == http.StatusUnprocessableEntity),
		answered && status.Code == http.StatusInternalServerError && strings.Contains(status.Message, "could not parse event"):
		return refused
	case answered && (status.Code < http.StatusInternalServerError || status.Own || status.Code == http.StatusServiceUnavailable),
		unreached && network.Op == "dial":
		return notTaken
	default:
		return unclear
	}
}

// IsRefused says whether an error of sending an event is that it never will be taken.
func IsRefused(err error) bool { return saidOf(err) == refused }
