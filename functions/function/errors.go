package function

import (
	"context"
	"errors"
	"net/http"
)

// permanentError marks an error that the same event gives every time.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent marks an error as one that a repetition does not mend: Knative gives
// the event to the dead letter sink at once. Every other error is retriable.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// ErrorType is the kind of an error, in words for metrics: permanent or retriable; empty if
// there is none.
func ErrorType(err error) string {
	switch {
	case err == nil:
		return ""
	case IsPermanent(err):
		return "permanent"
	default:
		return "retriable"
	}
}

// IsPermanent says whether an error was marked by Permanent.
func IsPermanent(err error) bool {
	_, permanent := errors.AsType[permanentError](err)
	return permanent
}

// errTooLarge says that an event is larger than is received.
var errTooLarge = errors.New("it is too large")

// statusOf is the answer to an event whose handler failed. Knative repeats
// network errors, 5xx, 404, 408, 409 and 429, and nothing else
// (knative.dev/eventing/pkg/kncloudevents, SelectiveRetry).
func statusOf(err error) int {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge
	case IsPermanent(err):
		return http.StatusBadRequest
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	default:
		return http.StatusServiceUnavailable
	}
}
