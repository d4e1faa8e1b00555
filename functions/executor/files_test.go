package executor

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/job-executor/job-executor/functions/files"
)

// refusing refuses so many connections, then answers.
type refusing struct{ times, asked int }

func (r *refusing) RoundTrip(request *http.Request) (*http.Response, error) {
	if r.asked++; r.asked <= r.times {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: request, Header: http.Header{}}, nil
}

// A network policy may apply to a new pod with a delay.
func TestBridgeThatCanNotBeReachedIsTriedAgainAtOnce(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		refused, asked int
		err            string
		took           time.Duration
	}{
		"it answers":               {asked: 1, err: "503"},
		"it can be reached soon":   {refused: 3, asked: 4, err: "503", took: 350 * time.Millisecond},
		"it can't be reached long": {refused: 100, asked: 8, err: "connection refused", took: 6350 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport, began := &refusing{times: test.refused}, time.Now()
				from := &BridgeFiles{Gateway: files.Client{URL: "http://bridge-files", TokenFile: token, HTTP: &http.Client{Transport: transport}}}
				_, err := from.Grant(t.Context(), triggered(t))
				if err == nil || !strings.Contains(err.Error(), test.err) || transport.asked != test.asked || time.Since(began) != test.took {
					t.Errorf("got %v after %d times in %s", err, transport.asked, time.Since(began))
				}
			})
		})
	}
}
