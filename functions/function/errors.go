package function

import (
	"context"
	"errors"
	"net/http"
)

// permanentError is an error that the same event causes every time.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent marks an error that a retry cannot fix. Knative sends the event to the dead letter sink at once.
// All other errors are retried.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// ErrorType returns the kind of an error for metrics: permanent, retriable, or empty for nil.
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

// IsPermanent reports whether an error was marked by Permanent.
func IsPermanent(err error) bool {
	_, permanent := errors.AsType[permanentError](err)
	return permanent
}

// errTooLarge means that an event exceeds the limit.
var errTooLarge = errors.New("it is too large")

// statusOf returns the HTTP status for a handler's error. Knative retries network errors, 5xx, 404, 408, 409
// and 429, and nothing else (knative.dev/eventing/pkg/kncloudevents, SelectiveRetry).
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
