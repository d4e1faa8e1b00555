package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// ErrTokenRefused says that Keptn refused our token just now, so that it was not asked again:
// Keptn answers many wrong tokens with 429, also to those who have the right one.
var ErrTokenRefused = errors.New("Keptn refuses the API token")

const (
	firstProbe = 5 * time.Second
	lastProbe  = time.Minute
)

// tokenGate lets one request through at a time while Keptn refuses the API token. It does not
// cover OAuth tokens, which are renewed automatically. Its zero value is open.
type tokenGate struct {
	mutex sync.Mutex
	// refused is the token, if Keptn refused it; another one is tried at once.
	refused string
	isShut  bool
	pause   time.Duration
	next    time.Time
}

// enter returns ErrTokenRefused if a request with the token would be refused.
func (g *tokenGate) enter(token string, now time.Time) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if !g.isShut || g.refused != token {
		return nil
	}
	if now.Before(g.next) {
		return ErrTokenRefused
	}
	g.next = now.Add(g.pause)
	return nil
}

// leave takes note of an answer, and returns true if it shuts the gate.
func (g *tokenGate) leave(token string, status int, now time.Time) bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	switch status {
	case http.StatusUnauthorized:
		first := !g.isShut || g.refused != token
		if first {
			g.pause = firstProbe
		} else {
			g.pause = min(2*g.pause, lastProbe)
		}
		g.isShut, g.refused, g.next = true, token, now.Add(g.pause)
		return first
	case http.StatusTooManyRequests:
	default:
		g.isShut = false
	}
	return false
}

// Ready returns an error while Keptn refuses the token.
func (client *Client) Ready(context.Context) error {
	client.gate.mutex.Lock()
	defer client.gate.mutex.Unlock()
	if client.gate.isShut {
		return ErrTokenRefused
	}
	return nil
}
