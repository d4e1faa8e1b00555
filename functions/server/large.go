package server

import (
	"context"
	"log/slog"
	"net/http"

	"golang.org/x/sync/semaphore"
)

const (
	// largeAtATime is how many requests of the largest size are served at a time; of smaller ones, as many
	// as are together no larger.
	largeAtATime = 4
	// memoryTimeout is how long a request waits for that. It has to arrive within readTimeout, waiting
	// included.
	memoryTimeout = readTimeout / 2
)

// FewLarge returns a handler that serves many requests at a time, but of large ones, up to largest bytes, only a
// few, so that memory is bounded: the others wait, unread, and are answered 503 if that takes too long.
func FewLarge(next http.Handler, largest int64, log *slog.Logger) http.Handler {
	memory := semaphore.NewWeighted(largeAtATime * largest)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		size := largest // if it does not say
		if request.ContentLength >= 0 {
			size = min(size, request.ContentLength)
		}
		ctx, cancel := context.WithTimeout(request.Context(), memoryTimeout)
		defer cancel()
		if err := memory.Acquire(ctx, size); err != nil {
			log.WarnContext(ctx, "too many large requests at a time", "bytes", size, "error", err)
			http.Error(writer, "too many large requests at a time", http.StatusServiceUnavailable)
			return
		}
		defer memory.Release(size)
		next.ServeHTTP(writer, request)
	})
}
