package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// listed returns a triggered event as Keptn lists it.
const listed = `{"specversion":"1.0","id":"1","source":"shipyard-controller","type":"sh.keptn.event.test.triggered","data":{}}`

// answering serves one answer and keeps the last request's method, address and
// token.
func answering(t *testing.T, status int, body string) (*Client, *[3]string) {
	t.Helper()
	var last [3]string
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		last = [3]string{request.Method, request.URL.RequestURI(), request.Header.Get("x-token")}
		writer.WriteHeader(status)
		_, _ = writer.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Client{
		Endpoints: GatewayEndpoints(server.URL + "/api/"),
		Token:     func() string { return "secret" },
		HTTP:      NewHTTPClient(http.DefaultTransport, time.Minute),
		Source:    keptn.Source,
	}, &last
}

func readResource(ctx context.Context, client *Client, scope ResourceScope, path string) (string, error) {
	reader, err := client.Resource(ctx, scope, path)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(reader)
	return string(content), errors.Join(err, reader.Close())
}

// Keptn pages its lists, whatever page size is requested.
func TestListingIsComplete(t *testing.T) {
	pages := map[string]string{
		"":  `{"resources":[{"resourceURI":"/a"},{"resourceURI":"/b"}],"nextPageKey":"2"}`,
		"2": `{"resources":[{"resourceURI":"/b"},{"resourceURI":"/c"}],"nextPageKey":"0"}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		_, _ = writer.Write([]byte(pages[request.URL.Query().Get("nextPageKey")]))
	}))
	defer server.Close()
	client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Source: keptn.Source}
	got, err := client.ResourcePaths(t.Context(), ResourceScope{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff([]string{"a", "b", "c"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		blanks := bytes.Repeat([]byte(" "), 1<<20)
		for range maxAnswerBytes/len(blanks) + 1 {
			_, _ = writer.Write(blanks)
		}
	}))
	defer server.Close()
	client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Source: keptn.Source}
	var tooLarge *http.MaxBytesError
	if _, err := client.OpenTriggered(t.Context(), "t"); !errors.As(err, &tooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestClientCallsWhatKeptnServes(t *testing.T) {
	scope := ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c0"}
	task := keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v"}
	tests := []struct {
		name, answer string
		call         func(context.Context, *Client) (any, error)
		request      string
		want         any
	}{
		{
			name: "a file, escaped twice for the gateway", answer: `{"resourceURI":"job%2Fconfig.yaml","resourceContent":"aGVsbG8="}`,
			call: func(ctx context.Context, client *Client) (any, error) {
				return readResource(ctx, client, scope, "job/config.yaml")
			},
			request: "GET /api/resource-service/v1/project/p/stage/s/service/v/resource/job%252Fconfig.yaml?gitCommitID=c0", want: "hello",
		},
		{
			name: "the files of a stage, in one page", answer: `{"resources":[{"resourceURI":"/a"},{"resourceURI":"/b/c"}]}`,
			call: func(ctx context.Context, client *Client) (any, error) {
				return client.ResourcePaths(ctx, ResourceScope{Project: "p", Stage: "s"})
			},
			request: "GET /api/resource-service/v1/project/p/stage/s/resource?pageSize=10000", want: []string{"a", "b/c"},
		},
		{
			name: "whether an event is open", answer: `{"events":[` + listed + `],"nextPageKey":"0","totalCount":1}`,
			call:    func(ctx context.Context, client *Client) (any, error) { return client.IsOpen(ctx, task) },
			request: "GET /api/controlPlane/v1/event/triggered/sh.keptn.event.test.triggered?eventID=1&pageSize=10000&project=p", want: true,
		},
		{
			name: "sending", answer: `{"keptnContext":"c"}`,
			call: func(ctx context.Context, client *Client) (any, error) {
				return nil, client.Send(ctx, task.Event(keptn.Started, now, keptn.Outcome{}))
			},
			request: "POST /api/v1/event",
		},
		{
			name: "registering", answer: `{"id":"2675"}`,
			call: func(ctx context.Context, client *Client) (any, error) {
				return client.Register(ctx, models.Integration{Name: "job-executor"})
			},
			request: "POST /api/controlPlane/v1/uniform/registration", want: "2675",
		},
		{
			name: "a ping", answer: `{"id":"2675","subscriptions":[{"event":"e","filter":{"projects":null}}]}`,
			call: func(ctx context.Context, client *Client) (any, error) {
				integration, err := client.Ping(ctx, "2675")
				return integration.Subscriptions, err
			},
			request: "PUT /api/controlPlane/v1/uniform/registration/2675/ping", want: []models.EventSubscription{{Event: "e"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, last := answering(t, http.StatusOK, test.answer)
			got, err := test.call(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if request := last[0] + " " + last[1]; request != test.request || last[2] != "secret" {
				t.Errorf("got %s with token %q, want %s", request, last[2], test.request)
			}
		})
	}
}

func TestClientSaysWhatKeptnSaid(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		want       string
	}{
		{name: "a message", body: `{"code":404,"message":"project not found"}`, status: 404, want: "project not found"},
		{name: "a page of a proxy", body: "<html>\n<head>", status: 502, want: "<html>"},
		{name: "nothing", status: 500},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, _ := answering(t, test.status, test.body)
			_, err := client.OpenTriggered(t.Context(), "t")
			var status *StatusError
			want := fmt.Sprintf("Keptn answered GET /api/controlPlane/v1/event/triggered/t with %d: %s", test.status, test.want)
			if !errors.As(err, &status) || err.Error() != want || IsNotFound(err) != (test.status == http.StatusNotFound) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// A path is unescaped by the gateway, by resource-service as a path, and there once more
// as a query.
func TestEveryFileNameReachesResourceService(t *testing.T) {
	names := []string{
		"job/config.yaml",
		"a+b.txt",
		"100%.txt",
		"%2F.txt",
		"%252B",
		"with blank.txt",
		"a#b",
		"a?b=c",
		"a&b",
		"a=b;c",
		"ümläut/ß.md",
		"😀/🚀.png",
		".hidden/.file",
		"a:b@c",
		`back\slash`,
		"[x]{y}",
		"'quoted'",
		"~tilde",
		"a,b$c!(d)*",
	}
	for _, gateway := range []bool{false, true} {
		for _, name := range names {
			t.Run(fmt.Sprintf("%s, gateway %v", name, gateway), func(t *testing.T) {
				address := escapeFile(name, gateway)
				if gateway {
					address = throughGateway(t, address)
				}
				inner, err := url.PathUnescape(address)
				if err != nil {
					t.Fatal(err)
				}
				got, err := url.QueryUnescape(inner)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(address, "/") || got != name {
					t.Errorf("resource-service reads %q of %q", got, address)
				}
			})
		}
	}
}

// throughGateway unescapes a path once, like the gateway (recording 63-resources: escaped once, a file is not
// found).
func throughGateway(t *testing.T, path string) string {
	t.Helper()
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	return unescaped
}

func TestTokenIsNotSentToWhereARedirectLeads(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		t.Errorf("asked with token %q", request.Header.Get("x-token"))
	}))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusMovedPermanently))
	defer server.Close()
	client := &Client{
		Endpoints: GatewayEndpoints(server.URL), Token: func() string { return "secret" },
		HTTP: NewHTTPClient(http.DefaultTransport, time.Minute), Source: keptn.Source,
	}
	if _, err := client.OpenTriggered(t.Context(), "t"); err == nil {
		t.Error("a redirect was taken for an answer")
	}
}

// A deleted project waits for nothing.
func TestNothingIsCountedForADeletedProject(t *testing.T) {
	client, _ := answering(t, http.StatusNotFound, `{"code":404,"message":"project not found"}`)
	got, err := client.Count(t.Context(), keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v"})
	if err != nil || got != (keptn.Count{Standing: keptn.Aborted}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Keptn's counts decide whether an event is resent.
func TestCount(t *testing.T) {
	task := keptn.Task{TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v"}
	execution := func(state, current, previous string, events ...string) string {
		type counted struct {
			EventType string `json:"eventType"`
			Source    string `json:"source"`
		}
		list := []counted{}
		for index := 0; index < len(events); index += 2 {
			list = append(list, counted{events[index], events[index+1]})
		}
		content, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"sequenceExecutions":[{"status":{"state":%q,"previousTasks":[{"triggeredID":%q}],"currentTask":{"triggeredID":%q,"events":%s}}}]}`,
			state, previous, current, content)
	}
	const started, finished = "sh.keptn.event.test.started", "sh.keptn.event.test.finished"
	state := func(state string) string { return `{"states":[{"state":"` + state + `"}]}` }
	const none = `{"states":[]}`
	tests := []struct {
		name, executions, open, states string
		want                           keptn.Count
		err                            error
	}{
		{
			name:       "waiting for us",
			executions: execution("started", "1", "0"),
			states:     state("started"),
			want:       keptn.Count{Standing: keptn.Current},
		},
		{
			name:       "we started it",
			executions: execution("started", "1", "0", started, keptn.Source),
			want:       keptn.Count{Standing: keptn.Current, Started: 1},
		},
		{
			name:       "we started it twice",
			executions: execution("started", "1", "0", started, keptn.Source, started, keptn.Source),
			want:       keptn.Count{Standing: keptn.Current, Started: 2},
		},
		{
			name:       "started by another integration",
			executions: execution("started", "1", "0", started, "other"),
			want:       keptn.Count{Standing: keptn.Current},
		},
		{
			name:       "started by another installation",
			executions: execution("started", "1", "0", started, keptn.Source+"-0badcafe", finished, keptn.Source+"-0badcafe"),
			want:       keptn.Count{Standing: keptn.Current},
		},
		{
			name:       "we finished first",
			executions: execution("paused", "1", "0", finished, keptn.Source),
			want:       keptn.Count{Standing: keptn.Current, Finished: 1},
		},
		{
			name:       "paused before its start",
			executions: execution("paused", "1", "0"),
			want:       keptn.Count{Standing: keptn.Pending},
		},
		{
			name:       "paused just now, according to the sequence only",
			executions: execution("started", "1", "0"),
			states:     state("paused"),
			want:       keptn.Count{Standing: keptn.Pending},
		},
		{name: "completed", executions: execution("started", "2", "1"), want: keptn.Count{Standing: keptn.Completed}},
		{
			name:       "aborted",
			executions: execution("finished", "1", "0", started, keptn.Source),
			states:     state("aborted"),
			want:       keptn.Count{Standing: keptn.Aborted, Sequence: keptn.Sequence{Result: keptn.RunCancellation}},
		},
		{
			name:       "timed out",
			executions: execution("timedOut", "1", "0", started, keptn.Source),
			states:     state("timedOut"),
			want:       keptn.Count{Standing: keptn.Aborted, Sequence: keptn.Sequence{Result: keptn.RunTimeout}},
		},
		{
			name:       "an unconfirmed abort",
			executions: execution("finished", "1", "0", started, keptn.Source),
			states:     none,
			want:       keptn.Count{Standing: keptn.Unknown},
		},
		{
			name:       "aborted before the dispatch",
			executions: `{"sequenceExecutions":[]}`,
			states:     state("aborted"),
			want:       keptn.Count{Standing: keptn.Aborted, Sequence: keptn.Sequence{Result: keptn.RunCancellation}},
		},
		{
			name:       "listed, but not dispatched",
			executions: execution("started", "", "0"),
			open:       listed,
			want:       keptn.Count{Standing: keptn.Pending},
		},
		{
			name:       "nobody knows it",
			executions: `{"sequenceExecutions":null,"totalCount":0}`,
			states:     none,
			want:       keptn.Count{Standing: keptn.Unknown},
		},
		{name: "something else answers {}", executions: `{}`, states: none, want: keptn.Count{}, err: ErrForeign},
		{name: "something else answers null", executions: `null`, states: none, want: keptn.Count{}, err: ErrForeign},
		{name: "something else answers with a page", executions: `<html>`, states: none, want: keptn.Count{}, err: ErrForeign},
		{name: "the answer is cut off", executions: `{"sequenceExecutions":[{"sta`, states: none, want: keptn.Count{}, err: ErrForeign},
		{
			name:       "something else answers for the sequence",
			executions: `{"sequenceExecutions":[]}`,
			states:     `{}`,
			want:       keptn.Count{},
			err:        ErrForeign,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc(
				"/controlPlane/v1/sequence-execution",
				func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(test.executions)) },
			)
			mux.HandleFunc("/controlPlane/v1/event/triggered/{type}", func(writer http.ResponseWriter, _ *http.Request) {
				_, _ = writer.Write([]byte(`{"events":[` + test.open + `]}`))
			})
			mux.HandleFunc("/controlPlane/v1/sequence/p", func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(test.states)) })
			server := httptest.NewServer(mux)
			defer server.Close()
			client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Source: keptn.Source}
			got, err := client.Count(t.Context(), task)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("got error %v, want %v", err, test.err)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The sequences are those of recordings 02-pass, 03-errored and 40-abort-after-started.
func TestSequenceOfATask(t *testing.T) {
	const (
		passed = `{"scope":{"stage":"dev","triggeredId":"dev-1"},"sequence":{"name":"delivery"},
			"triggeredAt":"2026-11-23T23:13:01.284Z","status":{"state":"finished",
			"previousTasks":[{"name":"test","result":"pass","status":"succeeded","triggeredID":"1"}],"currentTask":{"events":[],"name":"","triggeredID":""}}}`
		next = `{"scope":{"stage":"prod","triggeredId":"prod-1"},"sequence":{"name":"delivery"},"triggeredAt":"2026-11-23T23:14:00.000Z","status":{"state":"started",
			"previousTasks":[],"currentTask":{"events":[],"name":"release","triggeredID":"2"}}}`
		errored = `{"scope":{"stage":"dev","triggeredId":"dev-1"},"sequence":{"name":"delivery"},
			"triggeredAt":"2026-11-23T23:13:01.284Z","status":{"state":"finished",
			"previousTasks":[{"name":"deployment","result":"pass","status":"succeeded","triggeredID":"1"},
			{"name":"test","result":"fail","status":"errored","triggeredID":"9"}],
			"currentTask":{"events":[],"name":"","triggeredID":""}}}`
		interrupted = `{"scope":{"stage":"dev","triggeredId":"dev-1"},"sequence":{"name":"delivery"},
			"triggeredAt":"2026-11-23T23:13:01.284Z","status":{"state":"finished",
			"previousTasks":[{"name":"test","result":"pass","status":"succeeded","triggeredID":"1"}],"currentTask":{"events":[],"name":"approval","triggeredID":"9"}}}`
	)
	triggered := time.Date(2026, 11, 23, 23, 13, 1, 284000000, time.UTC)
	dev := keptn.Sequence{ID: "dev-1", Name: "delivery", TriggeredAt: triggered}
	with := func(of keptn.Sequence, result keptn.RunResult, failed string) keptn.Sequence {
		of.Result, of.FailedTask = result, failed
		return of
	}
	tests := []struct {
		name, executions string
		task             keptn.Task
		want             keptn.Sequence
	}{
		{name: "it passed", executions: passed, task: keptn.Task{TriggeredID: "1"}, want: with(dev, keptn.RunSuccess, "")},
		{name: "a later task failed", executions: errored, task: keptn.Task{TriggeredID: "1"}, want: with(dev, keptn.RunFailure, "test")},
		{name: "it was aborted in a later task", executions: interrupted, task: keptn.Task{TriggeredID: "1"}, want: with(dev, keptn.RunCancellation, "")},
		{
			name: "the second stage runs", executions: next + "," + passed, task: keptn.Task{TriggeredID: "2"},
			want: keptn.Sequence{ID: "prod-1", Name: "delivery", TriggeredAt: time.Date(2026, 11, 23, 23, 14, 0, 0, time.UTC), Previous: "dev-1"},
		},
		{
			name: "a task that no sequence triggered belongs to the sequence before it in its stage", executions: next + "," + passed,
			task: keptn.Task{TriggeredID: "sli", Stage: "dev", TriggeredAt: triggered.Add(time.Hour)}, want: with(dev, keptn.RunSuccess, ""),
		},
		{
			name: "a task that was triggered before all sequences", executions: passed,
			task: keptn.Task{TriggeredID: "sli", Stage: "dev", TriggeredAt: triggered.Add(-time.Hour)},
		},
		{
			name: "an invalid time only concerns traces", task: keptn.Task{TriggeredID: "1"},
			executions: strings.ReplaceAll(passed, "2026-11-23T23:13:01.284Z", "yesterday"),
			want:       keptn.Sequence{ID: "dev-1", Name: "delivery", Result: keptn.RunSuccess},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			answer := func(pattern, body string) {
				mux.HandleFunc(pattern, func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(body)) })
			}
			answer("/controlPlane/v1/sequence-execution", `{"sequenceExecutions":[`+test.executions+`]}`)
			answer("/controlPlane/v1/event/triggered/{type}", `{"events":[]}`)
			answer("/controlPlane/v1/sequence/p", `{"states":[{"state":"finished","stages":[{"name":"dev","latestEvent":`+
				`{"type":"sh.keptn.event.dev.delivery.finished","time":"2026-11-23T23:13:03.076Z"}},`+
				`{"name":"prod","latestEvent":{"type":"sh.keptn.event.release.triggered"}}]}]}`)
			server := httptest.NewServer(mux)
			defer server.Close()
			client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Source: keptn.Source}
			task := test.task
			task.Project, task.Context = "p", "c"
			got, err := client.Count(t.Context(), task)
			if difference := cmp.Diff(test.want, got.Sequence); err != nil || difference != "" {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
			task.Stage = "dev"
			if ended, err := client.SequenceEndedAt(t.Context(), task); err != nil || ended.Sub(triggered) != 1792*time.Millisecond {
				t.Errorf("it ended at %s, %v", ended, err)
			}
			task.Stage = "prod"
			if ended, err := client.SequenceEndedAt(t.Context(), task); err == nil {
				t.Errorf("a running sequence has the end time %s", ended)
			}
		})
	}
}

func TestRepositoryHasNoCredentials(t *testing.T) {
	for remote, want := range map[string]string{
		`{"remoteURL":"https://user:secret@git.example.com/shop.git?token=secret#secret","user":"keptn"}`: "https://git.example.com/shop.git",
		`{"remoteURL":"ssh://git@git.example.com/shop.git"}`:                                              "ssh://git.example.com/shop.git",
		`null`: "",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			if request.URL.Path != "/controlPlane/v1/project/p" {
				http.NotFound(writer, request)
			}
			_, _ = writer.Write([]byte(`{"projectName":"p","gitCredentials":` + remote + `}`))
		}))
		client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient}
		if got, err := client.RepositoryURL(t.Context(), "p"); err != nil || got != want {
			t.Errorf("%s: got %s, %v", remote, got, err)
		}
		server.Close()
	}
}

// A slow Keptn, and one that fails, is asked less often, but not for ever less.
func TestKeptnIsAskedLessOftenThanItCanBear(t *testing.T) {
	const interval = time.Second
	got := []time.Duration{Pace(interval, 0), Pace(interval, time.Second), Pace(interval, time.Minute), Pace(time.Hour, time.Minute)}
	want := []time.Duration{interval, 5 * time.Second, maxPause, time.Hour}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("pace (-want +got):\n%s", difference)
	}
	pause := 10 * time.Millisecond
	got = nil
	for range 7 {
		pause = Backoff(interval, pause)
		got = append(got, pause)
	}
	want = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, maxPause, maxPause}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("back-off (-want +got):\n%s", difference)
	}
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// Each Job and each delivery of the Broker asks about its task (F59).
func TestFailingKeptnIsRarelyAskedAboutATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		isDown := true
		const current = `{"sequenceExecutions":[{"status":{"state":"started","currentTask":{"triggeredID":"1",` +
			`"events":[{"eventType":"sh.keptn.event.test.started","source":"job-executor"}]}}}]}`
		answer := func(request *http.Request) (*http.Response, error) {
			keptnContext := request.URL.Query().Get("keptnContext")
			asked[keptnContext]++
			if isDown && keptnContext == "failing" {
				return &http.Response{StatusCode: http.StatusServiceUnavailable, Request: request, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: http.StatusOK, Request: request, Body: io.NopCloser(strings.NewReader(current))}, nil
		}
		client := &Client{Endpoints: GatewayEndpoints("http://keptn"), Source: keptn.Source, HTTP: &http.Client{Transport: roundTrip(answer)}}
		count := func(keptnContext string) error {
			_, err := client.Count(t.Context(), keptn.Task{TriggeredID: "1", Context: keptnContext, Project: "p"})
			return err
		}
		const minutes = 10
		for second := range minutes * 60 {
			if err := count("failing"); err == nil || second == 0 && !strings.Contains(err.Error(), "503") {
				t.Fatalf("got %v", err)
			}
			if err := count("other"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if asked["failing"] > minutes*5 || asked["other"] != minutes*60 {
			t.Errorf("asked %v", asked)
		}
		isDown = false
		time.Sleep(time.Minute)
		for range 2 {
			if err := count("failing"); err != nil {
				t.Error(err)
			}
		}
	})
}
