package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"
)

// ErrTokenRefused means that Keptn refused the token recently, and was not asked again: after many wrong tokens
// Keptn answers even the right one with 429.
var ErrTokenRefused = errors.New("Keptn refuses the API token")

const (
	firstProbe = 5 * time.Second
	lastProbe  = time.Minute
)

// tokenGate lets one request through at a time while Keptn refuses the API token. It does not
// cover OAuth tokens, which are renewed automatically. Its zero value is open.
type tokenGate struct {
	mutex sync.Mutex
	// refused is the refused token, if any. Another token is tried at once.
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

// leave records a response, and returns true if it closes the gate.
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
func (c *Client) Ready(context.Context) error {
	c.gate.mutex.Lock()
	defer c.gate.mutex.Unlock()
	if c.gate.isShut {
		return ErrTokenRefused
	}
	return nil
}

const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
	// maxFailing bounds the contexts whose failures are remembered.
	maxFailing = 10000
)

// contextGate limits requests about a Keptn context that fail to one at a time: each task and Job of the
// context asks separately, and the Broker retries each. A failure does not affect other contexts, which may
// belong to other projects. Its zero value is open.
type contextGate struct {
	mutex   sync.Mutex
	failing map[string]failingContext
}

type failingContext struct {
	pause time.Duration
	next  time.Time
	err   error
}

// enter returns the last error about a context if it is too early to ask again.
func (g *contextGate) enter(keptnContext string, now time.Time) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	failing, ok := g.failing[keptnContext]
	if !ok {
		return nil
	}
	if now.Before(failing.next) {
		return fmt.Errorf("wait until %s: %w", failing.next.UTC().Format(time.RFC3339), failing.err)
	}
	failing.next = now.Add(failing.pause)
	g.failing[keptnContext] = failing
	return nil
}

// leave records whether Keptn answered.
func (g *contextGate) leave(keptnContext string, err error, now time.Time) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if err == nil {
		delete(g.failing, keptnContext)
		return
	}
	failing, known := g.failing[keptnContext]
	if !known && len(g.failing) >= maxFailing {
		maps.DeleteFunc(g.failing, func(_ string, old failingContext) bool { return now.Sub(old.next) > lastRetry })
		if len(g.failing) >= maxFailing {
			return
		}
	}
	if g.failing == nil {
		g.failing = map[string]failingContext{}
	}
	pause := min(max(2*failing.pause, firstRetry), lastRetry)
	g.failing[keptnContext] = failingContext{pause: pause, next: now.Add(pause), err: err}
}
