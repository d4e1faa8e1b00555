package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
)

func TestGateForwardsToTheElectedBridge(t *testing.T) {
	replied := protocol.Log(task, noon, "a reply", "").Event()
	tests := []struct {
		name      string
		answer    func(http.ResponseWriter, *http.Request)
		holder    bool
		sent      event.Event
		reply     string
		err       string
		permanent bool
	}{
		{name: "a reply is returned", answer: func(writer http.ResponseWriter, request *http.Request) {
			signals := telemetry.To("bridge", slog.DiscardHandler)
			function.Receiver(func(context.Context, event.Event) (*event.Event, error) { return &replied, nil }, 1<<20, signals).
				ServeHTTP(writer, request)
		}, holder: true, sent: task.Event(keptn.Started, noon, keptn.Outcome{}), reply: replied.Type()},
		{
			name:   "no reply is returned",
			answer: func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(http.StatusAccepted) },
			holder: true,
			sent:   task.Event(keptn.Started, noon, keptn.Outcome{}),
		},
		{name: "an error is retried", answer: func(writer http.ResponseWriter, _ *http.Request) {
			http.Error(writer, "not now", http.StatusServiceUnavailable)
		}, holder: true, sent: task.Event(keptn.Started, noon, keptn.Outcome{}), err: "with 503: not now"},
		{
			name:      "a permanent error is not retried",
			answer:    func(writer http.ResponseWriter, _ *http.Request) { http.Error(writer, "never", http.StatusBadRequest) },
			holder:    true,
			sent:      task.Event(keptn.Started, noon, keptn.Outcome{}),
			err:       "with 400: never",
			permanent: true,
		},
		{
			name: "nobody is elected",
			sent: task.Event(keptn.Started, noon, keptn.Outcome{}),
			err:  "no replica is elected at the moment",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var paths []string
			server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
				paths = append(paths, fmt.Sprint(request.URL.Path, " ", request.Header.Get("Ce-"+forwardedExtension)))
				test.answer(writer, request)
			}))
			defer server.Close()
			gate := &Gate{HTTP: http.DefaultClient, Holder: func() string {
				if test.holder {
					return strings.TrimPrefix(server.URL, "http://")
				}
				return ""
			}}
			handle := gate.Handler("/keptn", func(context.Context, event.Event) (*event.Event, error) {
				t.Error("it was handled here")
				return nil, nil
			})
			reply, err := handle(t.Context(), test.sent)
			got := ""
			if reply != nil {
				got = reply.Type()
			}
			if got != test.reply || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) ||
				function.IsPermanent(err) != test.permanent {
				t.Errorf("got %q, %v", got, err)
			}
			if test.holder {
				if difference := cmp.Diff([]string{"/keptn true"}, paths); difference != "" {
					t.Errorf("requests (-want +got):\n%s", difference)
				}
			}
		})
	}
}

// Two replicas that each take the other for the leader do not forward an event endlessly.
func TestGateForwardsOnce(t *testing.T) {
	gate := &Gate{HTTP: http.DefaultClient, Holder: func() string { return "127.0.0.1:1" }}
	forwarded := task.Event(keptn.Started, noon, keptn.Outcome{})
	forwarded.SetExtension(forwardedExtension, true)
	_, err := gate.Handler("/keptn", nil)(t.Context(), forwarded)
	if err == nil || err.Error() != "no replica is elected at the moment" {
		t.Errorf("got %v", err)
	}
}

func TestGateHandlesWhileItsBridgeIsElected(t *testing.T) {
	gate := &Gate{HTTP: http.DefaultClient, Holder: func() string { return "" }}
	handled := 0
	handle := gate.Handler("/keptn", func(context.Context, event.Event) (*event.Event, error) {
		handled++
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var got []bool
	for _, step := range []func(){func() {}, func() { gate.Open(ctx) }, cancel} {
		step()
		_, err := handle(t.Context(), task.Event(keptn.Started, noon, keptn.Outcome{}))
		got = append(got, err == nil)
	}
	if difference := cmp.Diff([]bool{false, true, false}, got); difference != "" || handled != 1 {
		t.Errorf("handled %d times (-want +got):\n%s", handled, difference)
	}
}

// A replica stops handling events when it is no longer elected.
func TestGateEndsWhatWasBegunWithTheTerm(t *testing.T) {
	gate := &Gate{HTTP: http.DefaultClient, Holder: func() string { return "" }}
	term, end := context.WithCancel(t.Context())
	gate.Open(term)
	_, err := gate.Handler("/keptn", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		end()
		<-ctx.Done()
		return nil, ctx.Err()
	})(t.Context(), task.Event(keptn.Started, noon, keptn.Outcome{}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
