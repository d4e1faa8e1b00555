package files

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/test/fixture"
)

// answering is a gateway with a constant response. It records requests.
func answering(t *testing.T, status int, body string) (*Client, *[]string) {
	t.Helper()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		asked = append(
			asked,
			request.Method+" "+request.URL.String()+" "+request.Header.Get(
				"Authorization",
			)+" "+request.Header.Get(
				GrantHeader,
			)+request.Header.Get(
				"Ce-Id",
			),
		)
		writer.Header().Set(StartedHeader, "true")
		writer.WriteHeader(status)
		_, _ = writer.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Client{URL: server.URL, TokenFile: tokenFile, HTTP: http.DefaultClient}, &asked
}

func TestClientAsksAsTheGatewayWants(t *testing.T) {
	client, asked := answering(t, http.StatusOK, `["a"]`)
	grant, err := client.Grant(t.Context(), fixture.Triggered(fixture.Task), []string{"a", "b"})
	if difference := cmp.Diff(Grant{Token: `["a"]`, Started: true}, grant); difference != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	content, err := client.File(t.Context(), "grant", StageLevel, "x y", 2)
	if string(content) != `["a` || err != nil {
		t.Errorf("got %s, %v; it should be one byte more than two", content, err)
	}
	paths, err := client.Paths(t.Context(), "grant", ServiceLevel)
	if difference := cmp.Diff([]string{"a"}, paths); difference != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	want := []string{
		"POST /grant?namespace=a&namespace=b Bearer token 1", "GET /resource?level=stage&path=x+y Bearer token grant",
		"GET /resource?level=service Bearer token grant",
	}
	if difference := cmp.Diff(want, *asked); difference != "" {
		t.Errorf("asked (-want +got):\n%s", difference)
	}
}

func TestClientTellsAnswersApart(t *testing.T) {
	tests := []struct {
		name        string
		status      int
		grant, file error
		temporary   bool
	}{
		{name: "a missing file", status: http.StatusNotFound, grant: &StatusError{http.StatusNotFound, "no"}, file: ErrNotFound},
		{name: "a completed task", status: http.StatusGone, grant: ErrOver, file: &StatusError{http.StatusGone, "no"}},
		{
			name:   "forbidden",
			status: http.StatusForbidden,
			grant:  &StatusError{http.StatusForbidden, "no"},
			file:   &StatusError{http.StatusForbidden, "no"},
		},
		{
			name:   "an unknown token",
			status: http.StatusUnauthorized,
			grant:  &StatusError{http.StatusUnauthorized, "no"},
			file:   &StatusError{http.StatusUnauthorized, "no"},
		},
		{
			name:      "Keptn is away",
			status:    http.StatusBadGateway,
			grant:     &StatusError{http.StatusBadGateway, "no"},
			file:      &StatusError{http.StatusBadGateway, "no"},
			temporary: true,
		},
		{
			name:      "too many paths",
			status:    http.StatusTooManyRequests,
			grant:     &StatusError{http.StatusTooManyRequests, "no"},
			file:      &StatusError{http.StatusTooManyRequests, "no"},
			temporary: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, _ := answering(t, test.status, "no\n")
			_, grantErr := client.Grant(t.Context(), fixture.Triggered(fixture.Task), nil)
			_, fileErr := client.File(t.Context(), "grant", ServiceLevel, "x", 10)
			for what, errs := range map[string][2]error{"grant": {test.grant, grantErr}, "file": {test.file, fileErr}} {
				want, got := errs[0], errs[1]
				status, ok := errors.AsType[*StatusError](want)
				if !ok && !errors.Is(got, want) || ok && !strings.HasSuffix(got.Error(), want.Error()) {
					t.Errorf("%s: got %v, want %v", what, got, want)
				}
				if ok && status.IsTemporary() != test.temporary {
					t.Errorf("temporary: %v", status.IsTemporary())
				}
			}
		})
	}
}

func TestClientReadsOnlyAListOfPaths(t *testing.T) {
	client, _ := answering(t, http.StatusOK, "<html>")
	if paths, err := client.Paths(t.Context(), "grant", ServiceLevel); err == nil {
		t.Errorf("got %v", paths)
	}
}
