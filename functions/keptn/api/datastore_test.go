package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/keptn"
)

// storedEvent is an event as mongodb-datastore lists it.
type storedEvent struct {
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Time        string         `json:"time,omitempty"`
	Context     string         `json:"shkeptncontext"`
	TriggeredID string         `json:"triggeredid,omitempty"`
	Data        map[string]any `json:"data"`
	Version     string         `json:"specversion"`
}

// datastore answers Keptn's requests from a list of stored events. Its pages have two events. Other paths have constant
// answers, and a path without an answer has Keptn's 404.
type datastore struct {
	events []storedEvent
	// status replaces mongodb-datastore's answers, unless it is 0.
	status  int
	answers map[string]string
	// requests are the methods, paths, types and bodies of all requests.
	requests []string
}

func (d *datastore) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	var body json.RawMessage
	_ = json.NewDecoder(request.Body).Decode(&body)
	d.requests = append(d.requests, request.Method+" "+request.URL.EscapedPath()+" "+request.Header.Get("Content-Type")+" "+string(body))
	if request.URL.Path != "/mongodb-datastore/event" {
		answer, ok := d.answers[request.URL.EscapedPath()]
		if !ok {
			writer.WriteHeader(http.StatusNotFound)
			answer = `{"code":404,"message":"nothing is there"}`
		}
		_, _ = writer.Write([]byte(answer))
		return
	}
	if d.status != 0 {
		writer.WriteHeader(d.status)
		return
	}
	query := request.URL.Query()
	matching := slices.DeleteFunc(slices.Clone(d.events), func(found storedEvent) bool {
		return found.Context != query.Get("keptnContext") || query.Has("type") && found.Type != query.Get("type")
	})
	for index := range matching {
		matching[index].Version = "1.0"
	}
	const pageSize = 2
	first, next := 0, "0"
	_, _ = fmt.Sscan(query.Get("nextPageKey"), &first)
	last := min(first+pageSize, len(matching))
	if last < len(matching) {
		next = fmt.Sprint(last)
	}
	_ = json.NewEncoder(writer).Encode(map[string]any{"events": matching[first:last], "nextPageKey": next})
}

// client returns a client of a Keptn with the datastore.
func (d *datastore) client(t *testing.T) *Client {
	t.Helper()
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	return &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Source: keptn.Source}
}

// shipyard-controller does not know the events of other services. Their answers are counted in mongodb-datastore.
func TestDirectEventsAreCountedInTheDatastore(t *testing.T) {
	const getSLI = "sh.keptn.event.get-sli."
	task := keptn.Task{TriggeredID: "1", Name: getSLITask, Context: "c", Project: "p", Stage: "s", Service: "v"}
	triggered := func(source string) storedEvent {
		return storedEvent{ID: "1", Source: source, Type: getSLI + "triggered", Context: "c"}
	}
	answer := func(phase, source, triggeredID string) storedEvent {
		return storedEvent{ID: phase, Source: source, Type: getSLI + phase, Context: "c", TriggeredID: triggeredID}
	}
	const lighthouse, ours = "lighthouse-service", keptn.Source
	tests := []struct {
		name               string
		events             []storedEvent
		status             int
		without, wantError bool
		want               keptn.Count
	}{
		{name: "an unknown event"},
		{name: "another event of the context", events: []storedEvent{{ID: "2", Source: lighthouse, Type: getSLI + "triggered", Context: "c"}}},
		{name: "an event of shipyard-controller", events: []storedEvent{triggered(controllerSource)}},
		{name: "waiting for us", events: []storedEvent{triggered(lighthouse)}, want: keptn.Count{Standing: keptn.Current, Archived: true}},
		{
			name: "we started it", events: []storedEvent{triggered(lighthouse), answer("started", ours, "1")},
			want: keptn.Count{Standing: keptn.Current, Started: 1, Archived: true},
		},
		{
			name:   "answers of others, and to other events",
			events: []storedEvent{triggered(lighthouse), answer("started", "other", "1"), answer("started", ours, "2")},
			want:   keptn.Count{Standing: keptn.Current, Archived: true},
		},
		{
			name: "we finished it", events: []storedEvent{triggered(lighthouse), answer("started", ours, "1"), answer("finished", ours, "1")},
			want: keptn.Count{Standing: keptn.Completed, Started: 1, Finished: 1, Archived: true},
		},
		{name: "without a datastore", events: []storedEvent{triggered(lighthouse)}, without: true},
		{name: "our token may not ask", status: http.StatusForbidden},
		{name: "the datastore is down", status: http.StatusServiceUnavailable, wantError: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			archive := &datastore{events: test.events, status: test.status, answers: map[string]string{
				"/controlPlane/v1/sequence-execution":                               `{"sequenceExecutions":[]}`,
				"/controlPlane/v1/event/triggered/sh.keptn.event.get-sli.triggered": `{"events":[]}`,
				"/controlPlane/v1/sequence/p":                                       `{"states":[]}`,
			}}
			client := archive.client(t)
			if test.without {
				client.Endpoints.Datastore = ""
			}
			got, err := client.Count(t.Context(), task)
			if difference := cmp.Diff(test.want, got); difference != "" || (err != nil) != test.wantError {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
		})
	}
}

// Over HTTP, lighthouse-service's requests for SLIs are only in mongodb-datastore.
func TestRequestsForSLIsAreListed(t *testing.T) {
	const list = "/controlPlane/v1/event/triggered/sh.keptn.event."
	evaluation := func(id, keptnContext string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"shipyard-controller","type":"sh.keptn.event.evaluation.triggered",` +
			`"shkeptncontext":"` + keptnContext + `","data":{}}`
	}
	getSLI := func(id, source, keptnContext string) storedEvent {
		return storedEvent{ID: id, Source: source, Type: "sh.keptn.event.get-sli.triggered", Context: keptnContext}
	}
	tests := []struct {
		name, evaluations string
		status            int
		without           bool
		want              []string
		wantError         bool
	}{
		{name: "no evaluation is open", want: []string{"listed"}},
		{name: "each context is asked about once", evaluations: evaluation("1", "c") + "," + evaluation("2", "c"), want: []string{"listed", "a"}},
		{name: "of two contexts", evaluations: evaluation("1", "c") + "," + evaluation("2", "d"), want: []string{"listed", "a", "b"}},
		{name: "an evaluation without a context", evaluations: evaluation("1", ""), want: []string{"listed"}},
		{name: "without a datastore", evaluations: evaluation("1", "c"), without: true, want: []string{"listed"}},
		{name: "our token may not ask", evaluations: evaluation("1", "c"), status: http.StatusUnauthorized, want: []string{"listed"}},
		{name: "the datastore is down", evaluations: evaluation("1", "c"), status: http.StatusBadGateway, wantError: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			archive := &datastore{
				status: test.status,
				events: []storedEvent{getSLI("a", "lighthouse-service", "c"), getSLI("listed", controllerSource, "c"), getSLI("b", "lighthouse-service", "d")},
				answers: map[string]string{
					list + "evaluation.triggered": `{"events":[` + test.evaluations + `]}`,
					list + "get-sli.triggered":    `{"events":[` + strings.Replace(strings.Replace(listed, "test", "get-sli", 1), `"1"`, `"listed"`, 1) + `]}`,
				},
			}
			client := archive.client(t)
			if test.without {
				client.Endpoints.Datastore = ""
			}
			events, err := client.OpenTriggered(t.Context(), "sh.keptn.event.get-sli.triggered")
			var ids []string
			for _, found := range events {
				ids = append(ids, found.ID())
			}
			if difference := cmp.Diff(test.want, ids); difference != "" || (err != nil) != test.wantError {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
		})
	}
}
