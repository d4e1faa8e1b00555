package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listedAs returns an event as Keptn lists it.
func listedAs(id, data string) string {
	return fmt.Sprintf(`{"id":%q,"type":"sh.keptn.event.test.triggered","source":"shipyard-controller","specversion":"1.0","data":%s}`, id, data)
}

// A single event, or too many, hide no others.
func TestListingLeavesOutOnlyWhatItHasTo(t *testing.T) {
	large := `{"x":"` + strings.Repeat("x", maxAnswerBytes/3) + `"}`
	tests := []struct {
		name, answer string
		want         []string
		log, err     string
	}{
		{name: "all", answer: `{"events":[` + listedAs("1", "{}") + "," + listedAs("2", "{}") + `],"nextPageKey":"0","totalCount":2}`, want: []string{"1", "2"}},
		{name: "none", answer: `{"nextPageKey":"0","events":[]}`},
		{name: "null", answer: `{"events":null}`},
		{
			name: "one that is no " +
				"event", answer: `{"events":[` + listedAs("1", "{}") + `,{"id":5},` + listedAs("2", "{}") + `],"totalCount":3}`, want: []string{"1", "2"},
			log: "undecodable=1 \"beyond limit\"=0",
		},
		{
			name: "more than are listed", answer: `{"events":[` + listedAs("1", "{}") + `],"totalCount":7}`, want: []string{"1"},
			log: "undecodable=0 \"beyond limit\"=6",
		},
		{
			name: "more than " +
				"fits", answer: `{"events":[` + strings.Join([]string{listedAs("1", large), listedAs("2", large), listedAs("3", large), listedAs("4", large)}, ",") + `]}`,
			want: []string{"1", "2"}, log: "undecodable=0 \"beyond limit\"=1",
		},
		{name: "nobody's answer", answer: `{}`, err: "no events"},
		{name: "a page", answer: `<html>`, err: "not a response of Keptn"},
		{name: "no list", answer: `{"events":{}}`, err: "events is not a list"},
		{name: "half an answer", answer: `{"events":[` + listedAs("1", "{}"), err: "not a response of Keptn"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(test.answer)) }))
			defer server.Close()
			var log strings.Builder
			client := &Client{Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			for range 2 { // it is logged once
				events, err := client.OpenTriggered(t.Context(), "sh.keptn.event.test.triggered")
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v", err)
				}
				var got []string
				for _, event := range events {
					got = append(got, event.ID())
				}
				if difference := cmp.Diff(test.want, got); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			}
			if want := min(len(test.log), 1); strings.Count(log.String(), "\n") != want || !strings.Contains(log.String(), test.log) {
				t.Errorf("got %s", &log)
			}
		})
	}
}

// A refused token is tried once in a while, and said once; another one at once.
func TestRefusedTokenIsNotTriedAgainAndAgain(t *testing.T) {
	asked, token := 0, "wrong"
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if asked++; request.Header.Get("x-token") != "right" {
			http.Error(writer, `{"code":401, "message":"unauthenticated"}`, http.StatusUnauthorized)
			return
		}
		_, _ = writer.Write([]byte(`{"events":[]}`))
	}))
	defer server.Close()
	var log strings.Builder
	client := &Client{
		Endpoints: GatewayEndpoints(server.URL), HTTP: http.DefaultClient, Token: func() string { return token }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	for range 20 {
		if _, err := client.OpenTriggered(t.Context(), "t"); err == nil {
			t.Fatal("a wrong token is right")
		}
	}
	if asked != 1 || strings.Count(log.String(), "Keptn refuses the API token") != 1 || client.Ready(t.Context()) == nil {
		t.Errorf("asked %d times: %s", asked, &log)
	}
	token = "right"
	if _, err := client.OpenTriggered(t.Context(), "t"); err != nil || client.Ready(t.Context()) != nil {
		t.Error(err)
	}
}
