package function

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestConnectionsOfABurstAreReused(t *testing.T) {
	const atOnce, bursts = 50, 3
	var connections atomic.Int32
	arrived, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	transport := Transport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for range bursts {
		group, ctx := errgroup.WithContext(t.Context())
		for range atOnce {
			group.Go(func() error { return get(ctx, client, server.URL) })
		}
		for range atOnce {
			<-arrived
		}
		for range atOnce {
			answer <- struct{}{}
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	// Sometimes the client dials just before a connection becomes idle.
	if got := connections.Load(); got >= 2*atOnce {
		t.Errorf("%d bursts of %d requests made %d connections", bursts, atOnce, got)
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
