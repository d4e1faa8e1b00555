package function

import (
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

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

var discard = slog.New(slog.DiscardHandler)

func reply() *event.Event {
	created := event.New()
	created.SetID("2")
	created.SetSource("s")
	created.SetType("reply")
	return &created
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
			name:    "an error is retried by Knative",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, errors.New("for now") },
			want:    answer{Status: 503, Body: "for now\n"},
		},
		{
			name:    "a timeout is retried by Knative",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, fmt.Errorf("asking: %w", context.DeadlineExceeded) },
			want:    answer{Status: 504, Body: "asking: context deadline exceeded\n"},
		},
		{
			name:    "a permanent error is not retried",
			method:  "POST",
			version: binary,
			body:    "{}",
			handle:  func() (*event.Event, error) { return nil, fmt.Errorf("it is: %w", Permanent(errors.New("wrong"))) },
			want:    answer{Status: 400, Body: "it is: wrong\n"},
		},
		{
			name:   "an invalid event is not retried",
			method: "POST",
			body:   "{}",
			want:   answer{Status: 400, Body: "read the event: unknown Message encoding\n"},
		},
		{
			name:    "an event that is too large is not retried",
			method:  "POST",
			version: binary,
			body:    strings.Repeat("x", 2000),
			want:    answer{Status: 413, Body: "read the event: it is too large: more than 1000 bytes\n"},
		},
		{name: "other methods than POST are refused", method: "GET", version: binary, want: answer{Status: 405, Body: "events are received by POST\n"}},
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
			}, most, signals(tracetest.NewSpanRecorder())).ServeHTTP(recorder, request)
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
		}, 1<<20, signals(tracetest.NewSpanRecorder())).ServeHTTP(recorder, request)
		if recorder.Code != http.StatusAccepted && recorder.Code != http.StatusBadRequest {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	})
}

type wide struct {
	Number int    `env:"A_NUMBER"        envDefault:"1"`
	Needed string `env:"NEEDED,notEmpty"`
	Group  struct {
		Pause time.Duration `env:"PAUSE" envDefault:"1s"`
	}
}

func (w wide) Validate() error {
	if w.Number > 2 {
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
		{name: "a missing value", environment: map[string]string{}, want: "environment variable NEEDED: required"},
		{name: "an empty value", environment: map[string]string{"NEEDED": ""}, want: "environment variable NEEDED: required"},
		{
			name:        "all mistakes at once, also in nested structures",
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

func signals(recorder *tracetest.SpanRecorder) *telemetry.Signals {
	return &telemetry.Signals{
		Log:     discard,
		Tracers: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(telemetry.IDGenerator{})),
	}
}

// A function finishes requests in flight, and reports not ready.
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
	environment := Environment{MaxEventBytes: 1000, Draining: Draining{Delay: 300 * time.Millisecond, Timeout: 10 * time.Second}}
	go func() {
		served <- Serve(ctx, environment, listener, wired(program), signals(tracetest.NewSpanRecorder()))
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

// A function waits for its neighbours at startup: it is alive but not ready.
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
		served <- Serve(ctx, Environment{Draining: Draining{Timeout: time.Minute}}, listener, func(ctx context.Context) (Program, error) {
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
		}, signals(tracetest.NewSpanRecorder()))
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

		Environment{Draining: Draining{Timeout: time.Minute}},
		listener,
		wired(Program{Loops: []func(context.Context) error{func(context.Context) error { return wrong }}}),
		signals(tracetest.NewSpanRecorder()),
	)
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

// A trace continues with an event, whatever a Broker does with headers, and with the reply. An event without a
// trace starts none.
func TestTraceGoesOnThroughSenderAndReceiver(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	signals := signals(recorder)
	task := keptn.Task{Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", TriggeredID: "1", Name: "test"}
	tests := []struct {
		name string
		err  error
		// untraced says that the receiver's events are part of no trace.
		untraced bool
		ctx      context.Context
		want     []string
	}{
		{name: "below the span of the sender", ctx: telemetry.WithRun(t.Context(), task), want: []string{"process reply below RUN, Unset"}},
		{
			name: "a permanent error is marked", ctx: telemetry.WithRun(t.Context(), task), err: Permanent(errors.New("no")),
			want: []string{"process reply below RUN, Error"},
		},
		{
			name: "a retried error is not marked",
			ctx:  telemetry.WithRun(t.Context(), task),
			err:  errors.New("not now"),
			want: []string{"process reply below RUN, Unset"},
		},
		{name: "no span outside of a trace", ctx: t.Context()},
		{name: "no span for notices", ctx: telemetry.WithRun(t.Context(), task), untraced: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorder.Reset()
			handle := func(context.Context, event.Event) (*event.Event, error) { return reply(), test.err }
			handler := Program{Handlers: map[string]Handler{"/": handle}, Untraced: test.untraced}.HTTPHandler(1000, signals)
			broker := func(writer http.ResponseWriter, request *http.Request) {
				request.Header.Set("Traceparent", "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01") // Knative's own
				handler.ServeHTTP(writer, request)
			}
			server := httptest.NewServer(http.HandlerFunc(broker))
			defer server.Close()
			sender := &Sender{URL: server.URL, HTTP: http.DefaultClient}
			answer, err := sender.Request(test.ctx, *reply())
			if (err == nil) != (test.err == nil) {
				t.Fatal(err)
			}
			var got []string
			for _, ended := range recorder.Ended() {
				parent := ended.Parent().SpanID().String()
				if parent == telemetry.SpanID("1").String() {
					parent = "RUN"
				}
				got = append(got, fmt.Sprintf("%s below %s, %s", ended.Name(), parent, ended.Status().Code))
				if within := answer; within != nil &&
					telemetry.Parse(t.Context(), within.Extensions()[telemetry.SentWithinExtension].(string)).SpanID() != ended.SpanContext().SpanID() {
					t.Errorf("the reply is within %v", within.Extensions())
				}
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The first event that was sent before the function started has a span of the wait.
func TestColdStartIsASpan(t *testing.T) {
	handle := func(context.Context, event.Event) (*event.Event, error) { return nil, nil }
	ago := func(since time.Duration) string { return time.Now().Add(-since).UTC().Format(time.RFC3339Nano) }
	for name, test := range map[string]struct {
		sentAt []string
		want   []string
	}{
		"the function started for the event": {sentAt: []string{ago(5 * time.Second)}, want: []string{"cold start true", "process reply true"}},
		"only the first event waited": {
			sentAt: []string{ago(5 * time.Second), ago(5 * time.Second)}, want: []string{"cold start true", "process reply true", "process reply false"},
		},
		"the function ran before":            {sentAt: []string{ago(-time.Minute)}, want: []string{"process reply true"}},
		"the sender's clock is far behind":   {sentAt: []string{ago(time.Hour)}, want: []string{"process reply true"}},
		"the sender does not say when":       {sentAt: []string{""}, want: []string{"process reply true"}},
		"what the sender says is not a time": {sentAt: []string{"yesterday"}, want: []string{"process reply true"}},
		"an event of an earlier version":     {sentAt: []string{"", ago(5 * time.Second)}, want: []string{"process reply true", "process reply false"}},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			receiver := Receiver(handle, 1000, signals(recorder))
			for _, sentAt := range test.sentAt {
				sent := *reply()
				sent.SetExtension(telemetry.SentWithinExtension, "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01")
				if sentAt != "" {
					sent.SetExtension(telemetry.SentExtension, sentAt)
				}
				request := httptest.NewRequest(http.MethodPost, "/", nil)
				if err := cehttp.WriteRequest(t.Context(), binding.ToMessage(&sent), request); err != nil {
					t.Fatal(err)
				}
				receiver.ServeHTTP(httptest.NewRecorder(), request)
			}
			var got []string
			for _, span := range recorder.Ended() {
				attributes := attribute.NewSet(span.Attributes()...)
				isCold, _ := attributes.Value("faas.coldstart")
				got = append(got, fmt.Sprintf("%s %v", span.Name(), isCold.AsBool()))
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The request has no trace, but the reply has one, and the later spans continue it.
func TestReplyNamesItsOwnTraceWhereNobodyElseDoes(t *testing.T) {
	const its, asked = "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct{ name, asked, trace string }{
		{name: "a caller without a trace", trace: "4ed578f61e1e4a119b2e9a7111760f5b"},
		{name: "a caller with a trace", asked: asked, trace: "0af7651916cd43dd8448eb211c80319c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(Receiver(func(context.Context, event.Event) (*event.Event, error) {
				created := reply()
				created.SetExtension(telemetry.SentWithinExtension, its)
				return created, nil
			}, 1000, signals(tracetest.NewSpanRecorder())))
			defer server.Close()
			ctx := trace.ContextWithRemoteSpanContext(t.Context(), telemetry.Parse(t.Context(), test.asked))
			answer, err := (&Sender{URL: server.URL, HTTP: http.DefaultClient}).Request(ctx, *reply())
			if err != nil {
				t.Fatal(err)
			}
			got, _ := answer.Extensions()[telemetry.SentWithinExtension].(string)
			if within := telemetry.Parse(t.Context(), got).TraceID().String(); within != test.trace {
				t.Errorf("the reply is within %s", within)
			}
		})
	}
}

// A request without a valid event is counted with a type that no sender can choose.
func TestEventsAreCountedByTheirType(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	counted := *signals(tracetest.NewSpanRecorder())
	if err := counted.Measure("test", []telemetry.ReaderFunc{func() (sdkmetric.Reader, error) { return reader, nil }}); err != nil {
		t.Fatal(err)
	}
	answers := []error{nil, errors.New("not now"), Permanent(errors.New("never"))}
	receiver := httptest.NewServer(Receiver(func(context.Context, event.Event) (*event.Event, error) {
		err := answers[0]
		answers = answers[1:]
		return reply(), err
	}, 1000, &counted))
	defer receiver.Close()
	sender, err := Sink{URL: receiver.URL}.Sender(http.DefaultTransport, time.Minute, counted.Events)
	if err != nil {
		t.Fatal(err)
	}
	sent := *reply()
	sent.SetType("asked")
	for range answers {
		_, _ = sender.Request(t.Context(), sent)
	}
	response, err := http.Post(receiver.URL, "text/plain", strings.NewReader("no event"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	counted.Events.Retried(t.Context(), "asked")
	counted.Events.DeadLettered(t.Context(), "asked")
	counted.Events.Unproven(t.Context())
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, measured := range collected.ScopeMetrics[0].Metrics {
		name := func(attributes attribute.Set) string {
			eventType, _ := attributes.Value("cloudevents.event_type")
			failed, _ := attributes.Value("error.type")
			return strings.TrimSpace(measured.Name + " " + eventType.AsString() + " " + failed.AsString())
		}
		switch data := measured.Data.(type) {
		case metricdata.Sum[int64]:
			for _, point := range data.DataPoints {
				got[name(point.Attributes)] = int(point.Value)
			}
		case metricdata.Histogram[float64]:
			for _, point := range data.DataPoints {
				got[name(point.Attributes)] = int(point.Count)
			}
		}
	}
	want := map[string]int{
		"messaging.client.consumed.messages asked": 1, "messaging.client.consumed.messages asked retriable": 1,
		"messaging.client.consumed.messages asked permanent": 1, "messaging.client.consumed.messages _OTHER permanent": 1,
		"messaging.process.duration asked": 1, "messaging.process.duration asked retriable": 1,
		"messaging.process.duration asked permanent": 1, "messaging.process.duration _OTHER permanent": 1,
		"messaging.client.sent.messages asked": 1, "messaging.client.sent.messages asked retriable": 1,
		"messaging.client.sent.messages asked permanent": 1, "messaging.client.sent.messages reply": 1,
		"job_executor.events.retried asked": 1, "job_executor.events.dead_lettered asked": 1, "job_executor.events.unproven": 1,
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
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
