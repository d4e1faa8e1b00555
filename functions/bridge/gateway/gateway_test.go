package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/test/fixture"
)

// resources answers with what it was asked for.
type resources struct{ err error }

func (resources resources) Resource(_ context.Context, scope api.ResourceScope, path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("%+v %s", scope, path))), resources.err
}

func (resources resources) ResourcePaths(context.Context, api.ResourceScope) ([]string, error) {
	return []string{"a", "b/c"}, resources.err
}

type reviewer map[string]string

func (reviewer reviewer) Review(_ context.Context, token string) (string, error) {
	if user, ok := reviewer[token]; ok {
		return user, nil
	}
	return "", errors.New("it is not valid")
}

func TestGateway(t *testing.T) {
	wanted, err := json.Marshal(keptn.Task{TriggeredID: "1", Name: "test", Project: "p", Stage: "s", Service: "v", GitCommitID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	over := aborted
	grants := newGrants(func() time.Time { return noon })
	valid, err := grants.Sign(api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, method, path, task, bearer string
		count                            keptn.Count
		err                              error
		status                           int
		body                             string
	}{
		{"an executor gets a grant", "POST", "/grant", string(wanted), "executor's", current, nil, 200, valid},
		{"nobody else does", "POST", "/grant", string(wanted), "other's", current, nil, 403, "other may not ask for grants\n"},
		{"nor who is not known", "POST", "/grant", string(wanted), "", current, nil, 401, "a service account token for the audience job-executor-bridge is needed: it is not valid\n"},
		{"a grant is for a service", "POST", "/grant", `{"project":"p"}`, "executor's", current, nil, 400, "project, stage and service are needed\n"},
		{"a grant is for a task", "POST", "/grant", "[]", "executor's", current, nil, 400, "the task can't be read: json: cannot unmarshal array into Go value of type keptn.Task\n"},
		{"that Keptn waits for", "POST", "/grant", string(wanted), "executor's", over, nil, 410, "Keptn no longer waits for task 1\n"},
		{"and that it knows", "POST", "/grant", string(wanted), "executor's", keptn.Count{}, nil, 503, "Keptn does not know task 1\n"},
		{"if it is known", "POST", "/grant", string(wanted), "executor's", over, errDown, 502, "it is down\n"},
		{"a file of the service", "GET", "/resource?level=service&path=x/y", "", valid, current, nil, 200, "{Project:p Stage:s Service:v GitCommitID:c} x/y"},
		{"a file of the stage", "GET", "/resource?level=stage&path=x", "", valid, current, nil, 200, "{Project:p Stage:s Service: GitCommitID:c} x"},
		{"a file of the project, at no commit", "GET", "/resource?level=project&path=x", "", valid, current, nil, 200, "{Project:p Stage: Service: GitCommitID:} x"},
		{"a listing", "GET", "/resource?level=service", "", valid, current, nil, 200, `["a","b/c"]`},
		{"no other level", "GET", "/resource?level=all", "", valid, current, nil, 400, "level must be service, stage or project\n"},
		{"nothing without a grant", "GET", "/resource?level=service&path=x", "", "executor's", current, nil, 401, "a grant of the bridge is needed: it is no grant\n"},
		{"what Keptn does not have", "GET", "/resource?level=service&path=x", "", valid, current, &api.StatusError{Code: 404, Message: "Resource not found", Request: "GET /x", Own: true}, 404, "Keptn answered GET /x with 404: Resource not found\n"},
		{"what a proxy says it does not have", "GET", "/resource?level=service&path=x", "", valid, current, &api.StatusError{Code: 404, Message: "<html>", Request: "GET /x"}, 502, "Keptn answered GET /x with 404: <html>\n"},
		{"what Keptn can't give", "GET", "/resource?level=service&path=x", "", valid, current, errDown, 502, "it is down\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gateway := &Gateway{Resources: resources{test.err}, Counter: &fixture.Counter{Answer: test.count, Err: test.err}, Reporter: fixture.Starter(false), Reviewer: reviewer{"executor's": "executor", "other's": "other"}, Grants: grants, Subjects: []string{"executor"}, Cache: NewCache(), Log: discard}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			request := httptest.NewRequestWithContext(t.Context(), test.method, test.path, strings.NewReader(test.task))
			request.Header.Set("Authorization", "Bearer "+test.bearer)
			recorder := httptest.NewRecorder()
			mux.ServeHTTP(recorder, request)
			body, err := io.ReadAll(recorder.Body)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff([]any{test.status, test.body}, []any{recorder.Code, string(body)}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// An executor is told that a run has begun, so that it does not begin again.
func TestGrantTellsThatARunHasBegun(t *testing.T) {
	for name, test := range map[string]struct {
		count keptn.Count
		heard bool
		want  string
	}{
		"nobody has answered":                     {current, false, ""},
		"Keptn has our started event":             {running, false, "true"},
		"it was heard of, and Keptn knows it not": {current, true, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := &Gateway{
				Counter: &fixture.Counter{Answer: test.count}, Reporter: fixture.Starter(test.heard), Reviewer: reviewer{"executor's": "executor"},
				Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
			}
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/grant", strings.NewReader(`{"triggeredID":"1","project":"p","stage":"s","service":"v"}`))
			request.Header.Set("Authorization", "Bearer executor's")
			recorder := httptest.NewRecorder()
			gateway.grant(recorder, request)
			if got := recorder.Header().Get(files.StartedHeader); recorder.Code != http.StatusOK || got != test.want {
				t.Errorf("got %d, %q", recorder.Code, got)
			}
		})
	}
}

// file is a file of a number of bytes, of which the last can't be read if it is
// broken.
type file struct {
	size   int
	broken bool
	asked  int
}

func (file *file) Resource(context.Context, api.ResourceScope, string) (io.ReadCloser, error) {
	file.asked++
	content := io.LimitReader(zeros{}, int64(file.size))
	if file.broken {
		content = io.MultiReader(content, iotest.ErrReader(errDown))
	}
	return io.NopCloser(content), nil
}

func (file *file) ResourcePaths(context.Context, api.ResourceScope) ([]string, error) {
	return nil, errDown
}

type zeros struct{}

func (zeros) Read(buffer []byte) (int, error) { return len(buffer), nil }

func TestFilesAreStreamedBoundedAndCached(t *testing.T) {
	tests := []struct {
		name   string
		file   file
		commit string
		want   []any // status, bytes, complete, times that Keptn was asked for two requests
	}{
		{"a small file at a commit is asked for once", file{size: 1000}, "c", []any{200, int64(1000), true, 1}},
		{"at no commit it may have changed", file{size: 1000}, "", []any{200, int64(1000), true, 2}},
		{"a large file is not kept", file{size: 10 << 20}, "c", []any{200, int64(10 << 20), true, 2}},
		{"a too large file is cut off, not cut short", file{size: files.MaxFileBytes + 1}, "c", []any{200, int64(0), false, 2}},
		{"so is one that breaks off", file{size: 10 << 20, broken: true}, "c", []any{200, int64(0), false, 2}},
		{"one that breaks off early is an error", file{size: 10, broken: true}, "c", []any{502, int64(len("it is down\n")), true, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grants := newGrants(time.Now)
			gateway := &Gateway{Resources: &test.file, Grants: grants, Cache: NewCache(), Log: discard}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			server := httptest.NewServer(mux)
			defer server.Close()
			grant, err := grants.Sign(api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: test.commit})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/resource?level=service&path=x", nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+grant)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				read, err := io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if err != nil {
					read = 0
				}
				if difference := cmp.Diff(test.want[:3], []any{response.StatusCode, read, err == nil}); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			}
			if test.file.asked != test.want[3] {
				t.Errorf("Keptn was asked %d times", test.file.asked)
			}
		})
	}
}
