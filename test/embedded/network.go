package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
)

// Network is an http.RoundTripper that passes requests to handlers in this process, by the host of their URL.
type Network struct {
	mutex sync.Mutex
	hosts map[string]http.Handler
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network { return &Network{hosts: map[string]http.Handler{}} }

// Handle sets the handler of a host, as in URLs; nil removes the host.
func (n *Network) Handle(host string, handler http.Handler) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.hosts[host] = handler
}

// Errors of a request without a response.
var (
	ErrRefused error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	ErrReset   error = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)

// RoundTrip serves a request. As with a real server, the handler's context ends
// with the request's, a handler that ends without an answer is a reset
// connection, and a request whose context has ended is not sent.
func (n *Network) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := context.Cause(request.Context()); err != nil {
		return nil, err // http.Transport sends nothing then, either
	}
	n.mutex.Lock()
	handler := n.hosts[request.URL.Host]
	n.mutex.Unlock()
	if handler == nil {
		return nil, ErrRefused
	}
	ctx, cancel := context.WithCancel(request.Context())
	received := request.Clone(ctx)
	if received.URL.Path == "" {
		received.URL.Path = "/" // as it is on the wire
	}
	received.RequestURI, received.RemoteAddr, received.Host = request.URL.RequestURI(), "127.0.0.1:1", request.URL.Host
	if received.Body == nil {
		received.Body = http.NoBody
	}
	answered := make(chan *http.Response, 1)
	go func() {
		defer close(answered)
		defer cancel()
		// net/http resets the connection after this panic.
		defer func() {
			if reason := recover(); reason != nil && reason != http.ErrAbortHandler { //nolint:errorlint // it is the value itself
				panic(reason)
			}
		}()
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, received)
		_ = received.Body.Close()
		response := recorder.Result()
		response.Request = request
		answered <- response
	}()
	select {
	case response, ok := <-answered:
		if err := context.Cause(request.Context()); err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("wait for %s: %w", request.URL.Host, ErrReset)
		}
		return response, nil
	case <-request.Context().Done():
		return nil, context.Cause(request.Context())
	}
}

// discard reads a response to its end, up to a limit, and closes it.
func discard(response *http.Response) {
	const most = 1 << 20
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, most))
	_ = response.Body.Close()
}
