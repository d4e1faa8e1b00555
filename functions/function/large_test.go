package function

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOfLargeRequestsOnlyAFewAreServedAtATime(t *testing.T) {
	const largest = 1000
	type counts struct{ Served, Refused int64 }
	tests := []struct {
		name string
		size int64
		// given is the number of concurrent requests.
		given int
		takes time.Duration
		// atATime is how many are served before the first has been.
		atATime int64
		want    counts
	}{
		{name: "largest requests", size: largest, given: 9, takes: time.Second, atATime: largeAtATime, want: counts{Served: 9}},
		{name: "requests that are too large", size: 5 * largest, given: 9, takes: time.Second, atATime: largeAtATime, want: counts{Served: 9}},
		{name: "requests of unknown size", size: -1, given: 9, takes: time.Second, atATime: largeAtATime, want: counts{Served: 9}},
		{name: "half the size, twice as many", size: largest / 2, given: 9, takes: time.Second, atATime: 2 * largeAtATime, want: counts{Served: 9}},
		{name: "all small requests", size: 2, given: 200, takes: time.Second, atATime: 200, want: counts{Served: 200}},
		{name: "all empty requests", size: 0, given: 5000, takes: time.Second, atATime: 5000, want: counts{Served: 5000}},
		{
			name: "requests that wait too long are refused", size: largest, given: 9, takes: memoryTimeout + time.Second,
			atATime: largeAtATime, want: counts{Served: largeAtATime, Refused: 9 - largeAtATime},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var begun, served, refused atomic.Int64
				handler := fewLarge(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					begun.Add(1)
					time.Sleep(test.takes)
					served.Add(1)
				}), largest, slog.New(slog.DiscardHandler))
				for range test.given {
					request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
					request.ContentLength = test.size
					go func() {
						response := httptest.NewRecorder()
						handler.ServeHTTP(response, request)
						if response.Code == http.StatusServiceUnavailable {
							refused.Add(1)
						}
					}()
				}
				synctest.Wait()
				if begun.Load() != test.atATime {
					t.Errorf("%d are served at a time, want %d", begun.Load(), test.atATime)
				}
				time.Sleep(time.Hour)
				if difference := cmp.Diff(test.want, counts{served.Load(), refused.Load()}); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		})
	}
}
