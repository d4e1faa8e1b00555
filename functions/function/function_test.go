package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

var discard = slog.New(slog.DiscardHandler)

func reply() *event.Event {
	made := event.New()
	made.SetID("2")
	made.SetSource("s")
	made.SetType("reply")
	return &made
}

func TestReceiverAnswersWhatKnativeActsOn(t *testing.T) {
	const binary = "1.0"
	type answer struct {
		Status     int
		Body, Type string
	}
	tests := []struct {
		name    string
		method  string
		version string
		body    string
		handle  func() (*event.Event, error)
		want    answer
	}{
		{
			name:    "no reply is 202 without a body",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, nil },
			want:    answer{Status: 202},
		},
		{
			name:    "a reply is 200 with the event",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return reply(), nil },
			want:    answer{Status: 200, Type: "reply"},
		},
		{
			name:    "an error is repeated by Knative",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, errors.New("for now") },
			want:    answer{Status: 503, Body: "for now\n"},
		},
		{
			name:    "so is running out of time",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, fmt.Errorf("asking: %w", context.DeadlineExceeded) },
			want:    answer{Status: 504, Body: "asking: context deadline exceeded\n"},
		},
		{
			name:    "a permanent one is not",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, fmt.Errorf("it is: %w", Permanent(errors.New("wrong"))) },
			want:    answer{Status: 400, Body: "it is: wrong\n"},
		},
		{
			name:   "what is no event is not, either",
			method: "POST",
			body:   "{}",
			want:   answer{Status: 400, Body: "reading the event: unknown Message encoding\n"},
		},
		{
			name:    "nor what is too large",
			method:  "POST",
			version: binary,
			body:    strings.Repeat("x", 2000),
			want:    answer{Status: 413, Body: "reading the event: it is too large: more than 1000 bytes\n"},
		},
		{name: "events come by POST", method: "GET", version: binary, want: answer{Status: 405, Body: "events are received by POST\n"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request := httptest.NewRequestWithContext(t.Context(), test.method, "/", strings.NewReader(test.body))
			for name, value := range map[string]string{
				"Ce-Specversion": test.version, "Ce-Id": "1", "Ce-Source": "s", "Ce-Type": "t", "Content-Type": "application/json",
			} {
				request.Header.Set(name, value)
			}
			if test.version == "" {
				request.Header.Del("Ce-Specversion")
			}
			recorder := httptest.NewRecorder()
			const most = 1000
			Receiver(func(_ context.Context, received event.Event) (*event.Event, error) {
				if received.ID() != "1" || test.handle == nil {
					t.Errorf("%v was not to be handled", received)
				}
				return test.handle()
			}, most, discard).ServeHTTP(recorder, request)
			got := answer{recorder.Code, recorder.Body.String(), recorder.Header().Get("Ce-Type")}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add("application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{}}`)
	f.Add("application/json", "{}")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		request.Header.Set("Content-Type", contentType)
		recorder := httptest.NewRecorder()
		Receiver(func(_ context.Context, received event.Event) (*event.Event, error) {
			return nil, received.Validate()
		}, 1<<20, discard).ServeHTTP(recorder, request)
		if recorder.Code != http.StatusAccepted && recorder.Code != http.StatusBadRequest {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	})
}

type wide struct {
	Number int    `env:"A_NUMBER" envDefault:"1"`
	Needed string `env:"NEEDED,notEmpty"`
	Group  struct {
		Pause time.Duration `env:"PAUSE" envDefault:"1s"`
	}
}

func (wide wide) Validate() error {
	if wide.Number > 2 {
		return errors.New("environment variable A_NUMBER: too much")
	}
	return nil
}

func TestConfigureNamesEveryVariable(t *testing.T) {
	tests := []struct {
		name        string
		environment map[string]string
		want        string
	}{
		{name: "all is well", environment: map[string]string{"NEEDED": "x", "PAUSE": "2s"}},
		{
			name:        "a wrong value",
			environment: map[string]string{"NEEDED": "x", "A_NUMBER": "one"},
			want:        `environment variable A_NUMBER: strconv.ParseInt: parsing "one": invalid syntax`,
		},
		{name: "a missing one", environment: map[string]string{}, want: "environment variable NEEDED: required"},
		{name: "an empty one", environment: map[string]string{"NEEDED": ""}, want: "environment variable NEEDED: required"},
		{
			name:        "all of them at once, also in a group",
			environment: map[string]string{"A_NUMBER": "3", "PAUSE": "long"},
			want: "environment variable NEEDED: required\n" +
				"environment variable PAUSE: unable to parse duration: time: invalid duration \"long\"\nenvironment variable A_NUMBER: too much",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Configure[wide](test.environment)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.want {
				t.Errorf("got %s\nwant %s", message, test.want)
			}
		})
	}
}

func telemetry(recorder *tracetest.SpanRecorder) *Telemetry {
	return &Telemetry{
		Log:        discard,
		Tracers:    sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(idGenerator{})),
		Propagator: propagation.TraceContext{},
	}
}

// What is under way when the function is told to end is finished, and new
// requests are no longer asked for.
func TestServeDrains(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	begun, release := make(chan struct{}), make(chan struct{})
	program := Program{
		Handlers: map[string]Handler{"/": func(ctx context.Context, _ event.Event) (*event.Event, error) {
			close(begun)
			<-release
			return reply(), ctx.Err()
		}},
		Loops: []func(context.Context) error{func(ctx context.Context) error { <-ctx.Done(); return nil }},
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	environment := Environment{MaxEventBytes: 1000, DrainDelay: 300 * time.Millisecond, DrainTimeout: 10 * time.Second}
	go func() {
		served <- Serve(ctx, "test", environment, listener, wired(program), telemetry(tracetest.NewSpanRecorder()))
	}()
	ready := func() int {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	for ready() != http.StatusOK {
		time.Sleep(time.Millisecond)
	}
	sent := make(chan error, 1)
	go func() { sent <- (&Sender{URL: url, HTTP: http.DefaultClient}).Send(t.Context(), *reply()) }()
	<-begun
	end()
	for ready() != http.StatusServiceUnavailable {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if err := errors.Join(<-sent, <-served); err != nil {
		t.Error(err)
	}
}

// wired is a program that needs nothing.
func wired(program Program) func(context.Context) (Program, error) {
	return func(context.Context) (Program, error) { return program, nil }
}

// What is needed at the start may be away: the function is alive meanwhile, and not
// ready.
func TestFunctionIsAliveWhileItStarts(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served, attempted := make(chan error, 1), make(chan struct{})
	var come atomic.Bool
	log := slog.New(slog.DiscardHandler)
	go func() {
		served <- Serve(ctx, "test", Environment{}, listener, func(ctx context.Context) (Program, error) {
			return Retry(ctx, log, func(context.Context) (Program, error) {
				if !come.Load() {
					select {
					case <-attempted:
					default:
						close(attempted)
					}
					return Program{}, errors.New("the API server is away")
				}
				return Program{}, nil
			})
		}, telemetry(tracetest.NewSpanRecorder()))
	}()
	status := func(path string) int {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+path, nil)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	<-attempted
	if alive, ready := status("/healthz"), status("/readyz"); alive != http.StatusOK || ready != http.StatusServiceUnavailable {
		t.Errorf("alive %d, ready %d", alive, ready)
	}
	come.Store(true)
	for status("/readyz") != http.StatusOK {
		time.Sleep(time.Millisecond)
	}
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestLoopThatFailsEndsTheFunction(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("it can't go on")
	err = Serve(
		t.Context(),
		"test",
		Environment{},
		listener,
		wired(Program{Loops: []func(context.Context) error{func(context.Context) error { return wrong }}}),
		telemetry(tracetest.NewSpanRecorder()),
	)
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestTraceIsTheKeptnContext(t *testing.T) {
	tests := []struct{ name, context, want string }{
		{name: "a UUID", context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", want: "4ed578f61e1e4a119b2e9a7111760f5b"},
		{name: "too short", context: "4ed578f6"},
		{name: "too long", context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b00"},
		{name: "no UUID", context: "my context"},
		{name: "zero is no trace id", context: "00000000-0000-0000-0000-000000000000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			ctx, span := telemetry(recorder).Tracers.Tracer("").Start(ContextWithTraceID(t.Context(), test.context), "one")
			got := trace.SpanContextFromContext(ctx).TraceID().String()
			span.End()
			if test.want != "" && got != test.want || test.want == "" && (strings.HasPrefix(got, "4ed578f6") || !span.SpanContext().IsValid()) {
				t.Errorf("got %s, want %q", got, test.want)
			}
		})
	}
}

func TestTraceGoesOnThroughSenderAndReceiver(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	telemetry := telemetry(recorder)
	server := httptest.NewServer(
		telemetry.middleware("watcher", Receiver(func(context.Context, event.Event) (*event.Event, error) { return nil, nil }, 1000, discard)),
	)
	defer server.Close()
	ctx, span := telemetry.Tracers.Tracer("").Start(ContextWithTraceID(t.Context(), "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"), "root")
	sender := &Sender{URL: server.URL, HTTP: &http.Client{Transport: telemetry.Transport(http.DefaultTransport)}}
	if err := sender.Send(ctx, *reply()); err != nil {
		t.Fatal(err)
	}
	span.End()
	server.Close() // until the server's span has ended
	names := map[string]bool{}
	for _, ended := range recorder.Ended() {
		names[ended.Name()] = ended.SpanContext().TraceID().String() == "4ed578f61e1e4a119b2e9a7111760f5b"
	}
	if difference := cmp.Diff(map[string]bool{"root": true, "HTTP POST": true, "watcher reply": true}, names); difference != "" {
		t.Errorf("spans in the trace (-want +got):\n%s", difference)
	}
}

func TestLogLinesNameTheTrace(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(traceHandler{slog.NewJSONHandler(&log, nil)}).With("a", 1).WithGroup("g")
	ctx, span := telemetry(tracetest.NewSpanRecorder()).Tracers.Tracer("").Start(ContextWithTraceID(t.Context(), "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"), "one")
	logger.InfoContext(ctx, "hello")
	span.End()
	if !strings.Contains(log.String(), `"trace_id":"4ed578f61e1e4a119b2e9a7111760f5b"`) {
		t.Errorf("got %s", log.String())
	}
}

func TestSenderSaysWhatTheReceiverSaid(t *testing.T) {
	for status, permanent := range map[int]bool{
		http.StatusServiceUnavailable: false, http.StatusNotFound: false, http.StatusTooManyRequests: false, http.StatusBadRequest: true,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			_, _ = io.Copy(io.Discard, request.Body)
			http.Error(writer, "not now", status)
		}))
		err := (&Sender{URL: server.URL, HTTP: http.DefaultClient}).Send(t.Context(), *reply())
		if want := fmt.Sprintf("%s answered event 2 with %d: not now", server.URL, status); err == nil || err.Error() != want || IsPermanent(err) != permanent {
			t.Errorf("got %v, permanent: %v", err, IsPermanent(err))
		}
		server.Close()
	}
}
