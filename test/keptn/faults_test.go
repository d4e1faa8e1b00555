package keptn

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFaultsHaveEventsCountedLateAndTheControlPlaneAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := New(Options{Token: "token", Log: slog.New(slog.DiscardHandler)}, nil)
		gateway := server.Gateway()
		call := func(method, path, test string) (int, string) {
			request := httptest.NewRequestWithContext(t.Context(), method, path, nil)
			request.Header.Set("x-token", "token")
			request.Header.Set(TestHeader, test)
			recorder := httptest.NewRecorder()
			gateway.ServeHTTP(recorder, request)
			return recorder.Code, strings.TrimSpace(recorder.Body.String())
		}
		var mutex sync.Mutex
		var handled []string
		handle := func(content []byte) {
			mutex.Lock()
			defer mutex.Unlock()
			handled = append(handled, string(content))
		}
		seen := func() []string {
			mutex.Lock()
			defer mutex.Unlock()
			return slices.Clone(handled)
		}
		const triggered, started = `{"type":"sh.keptn.event.test.triggered"}`, `{"type":"sh.keptn.event.test.started"}`
		if status, _ := call(http.MethodPost, "/api/faults?lag=30s&away=10s", "yes"); status != http.StatusOK {
			t.Fatal(status)
		}
		if status, _ := call(http.MethodGet, "/api/controlPlane/v1/project", ""); status != http.StatusServiceUnavailable {
			t.Errorf("it is not away: %d", status)
		}
		server.faults.handle([]byte(started), handle)
		server.faults.handle([]byte(triggered), handle)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if difference := cmp.Diff([]string{triggered}, seen()); difference != "" {
			t.Errorf("while it is away (-want +got):\n%s", difference)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if difference := cmp.Diff([]string{triggered, started}, seen()); difference != "" {
			t.Errorf("later (-want +got):\n%s", difference)
		}
		if status, body := call(http.MethodPost, "/api/faults?lag=0s", "yes"); status != http.StatusOK || body != `{"requests":1}` {
			t.Errorf("got %d: %s", status, body)
		}
	})
}
