package embedded

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
)

// A stopped bridge abandons its requests. The Broker's later answer reaches nobody, as with http.Transport.
func TestARequestThatIsOverReachesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		network := NewNetwork()
		var served bool
		network.Handle("host", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://host/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := network.RoundTrip(request); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
			t.Errorf("error is %v, want %v", err, context.Canceled)
		}
		synctest.Wait()
		if served {
			t.Error("it was served")
		}
	})
}
