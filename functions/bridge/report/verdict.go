package report

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

// verdict is what an error says about the sent event.
type verdict int

const (
	// accepted: there is no error.
	accepted verdict = iota
	// unclear: the event may have arrived.
	unclear
	// notAccepted: the event has not arrived. It may the next time.
	notAccepted
	// tooLarge: Keptn accepts only smaller events.
	tooLarge
	// refused: Keptn never accepts this event.
	refused
)

// verdictOf classifies an error of Keptn, of its NATS or of a proxy in front of them. An event that is too
// large has many answers (recordings 52-oversize-http and 71-validation-on), and one of NATS' client.
func verdictOf(err error) verdict {
	status, answered := errors.AsType[*api.StatusError](err)
	network, unreached := errors.AsType[*net.OpError](err)
	switch {
	case err == nil:
		return accepted
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
		return notAccepted
	default:
		return unclear
	}
}

// isRefusal reports whether resending the same event is useless.
func isRefusal(err error) bool {
	verdict := verdictOf(err)
	return verdict == refused || verdict == tooLarge
}
