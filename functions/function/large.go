package function

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// largeAtATime is how many requests of the largest size are served at a time. More requests of a smaller
	// size fit into the same memory.
	largeAtATime = 1
	// smallBytes is the largest size of a small request. Small requests have memory of their own, so that large
	// ones, which may never arrive, do not delay them.
	smallBytes = 64 << 10
	// memoryTimeout is how long a request waits for memory. The wait counts towards readTimeout.
	memoryTimeout = readTimeout / 2
	// bodyTimeout is how long the body of a large request may take to arrive once it has memory.
	bodyTimeout = 10 * time.Second
)

// fewLarge returns a handler that serves many small requests but only a few large ones at a time, up to largest
// bytes each, so that memory is bounded. The others wait unread, and get 503 after a while.
func fewLarge(next http.Handler, largest int64, log *slog.Logger) http.Handler {
	large, small := semaphore.NewWeighted(largeAtATime*largest), semaphore.NewWeighted(largeAtATime*largest)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		size := largest // if the length is unknown
		if request.ContentLength >= 0 {
			size = min(size, request.ContentLength)
		}
		memory := small
		if size > smallBytes {
			memory = large
		}
		ctx, cancel := context.WithTimeout(request.Context(), memoryTimeout)
		defer cancel()
		if err := memory.Acquire(ctx, size); err != nil {
			log.WarnContext(ctx, "too many large requests at a time", "bytes", size, "error", err)
			http.Error(writer, "too many large requests at a time", http.StatusServiceUnavailable)
			return
		}
		defer memory.Release(size)
		if size > smallBytes {
			// Without a deadline, a request that never arrives would hold its memory.
			_ = http.NewResponseController(writer).SetReadDeadline(time.Now().Add(bodyTimeout)) // some writers have no deadline
		}
		next.ServeHTTP(writer, request)
	})
}

// atMost returns a handler that serves a number of requests at a time, and answers the others with 503.
func atMost(next http.Handler, most int64) http.Handler {
	places := semaphore.NewWeighted(most)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if !places.TryAcquire(1) {
			writer.Header().Set("Retry-After", "1")
			http.Error(writer, "too many requests at a time", http.StatusServiceUnavailable)
			return
		}
		defer places.Release(1)
		next.ServeHTTP(writer, request)
	})
}
