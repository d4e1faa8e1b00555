package keptn

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TestHeader marks requests of a test, which are not counted and never fail.
const TestHeader = "X-Test"

// faults are the current faults of the control plane: it counts events late and in any order, or it is down.
type faults struct {
	// lag is the longest delay before an event is counted, in nanoseconds.
	lag      atomic.Int64
	mutex    sync.Mutex
	back     time.Time
	requests atomic.Int64
	waiting  sync.WaitGroup
}

// away returns how long the control plane remains down.
func (f *faults) away() time.Duration {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return time.Until(f.back)
}

// handle handles an event at once or late.
func (f *faults) handle(content []byte, handle func([]byte)) {
	most := time.Duration(f.lag.Load())
	away := f.away()
	var event struct{ Type string }
	answer := json.Unmarshal(content, &event) == nil && (strings.HasSuffix(event.Type, ".started") || strings.HasSuffix(event.Type, ".finished"))
	if !answer || most <= 0 && away <= 0 {
		handle(content)
		return
	}
	pause := max(away, 0)
	if most > 0 {
		pause += rand.N(most) //nolint:gosec // no secret
	}
	f.waiting.Go(func() {
		time.Sleep(pause)
		handle(content)
	})
}

// through counts requests, and refuses them while the control plane is down.
func (f *faults) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Header.Get(TestHeader) != "" {
			next.ServeHTTP(writer, request)
			return
		}
		f.requests.Add(1)
		if f.away() > 0 {
			page(writer, http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(writer, request)
	})
}

// set sets the faults of a request, as Go durations, and responds with the counts: POST
// /api/faults?lag=10s&away=5s
func (f *faults) set(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	for name, use := range map[string]func(time.Duration){
		"lag": func(lag time.Duration) { f.lag.Store(int64(lag)) },
		"away": func(away time.Duration) {
			f.mutex.Lock()
			defer f.mutex.Unlock()
			f.back = time.Now().Add(away)
		},
	} {
		value := query.Get(name)
		if value == "" {
			continue
		}
		duration, err := time.ParseDuration(value)
		if err != nil {
			refuse(writer, http.StatusBadRequest, err.Error())
			return
		}
		use(duration)
	}
	answer(writer, http.StatusOK, map[string]any{"requests": f.requests.Load()})
}
