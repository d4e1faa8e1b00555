package function

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// largeAtATime is how many requests of the largest size are served at a time; of smaller ones, as many
	// as are together no larger.
	largeAtATime = 2
	// smallBytes is the size up to which requests are small. They share room of their own: large ones,
	// which may only be announced, do not hold them up.
	smallBytes = 64 << 10
	// memoryTimeout is how long a request waits for room. It has to arrive within readTimeout, waiting
	// included.
	memoryTimeout = readTimeout / 2
	// bodyTimeout is how long the body of a large request may take to arrive once there is room for it.
	bodyTimeout = 10 * time.Second
)

// fewLarge returns a handler that serves many requests at a time, but only a few large ones, up to
// largest bytes, so that memory is bounded. The others wait, unread, and get 503 if that takes too long.
func fewLarge(next http.Handler, largest int64, log *slog.Logger) http.Handler {
	large, small := semaphore.NewWeighted(largeAtATime*largest), semaphore.NewWeighted(largeAtATime*largest)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		size := largest // if it does not say
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
			// Else a request that is announced and never sent would keep the room.
			_ = http.NewResponseController(writer).SetReadDeadline(time.Now().Add(bodyTimeout)) // not for every writer
		}
		next.ServeHTTP(writer, request)
	})
}

// atMost returns a handler that serves a number of requests at a time, and answers 503 to the others.
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
