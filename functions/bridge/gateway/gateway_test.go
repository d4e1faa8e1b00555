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
		{
			name:   "an executor gets a grant",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			bearer: "executor's",
			count:  current,
			status: 200,
			body:   valid,
		},
		{
			name:   "nobody else does",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			bearer: "other's",
			count:  current,
			status: 403,
			body:   "other may not ask for grants\n",
		},
		{
			name:   "nor who is not known",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			count:  current,
			status: 401,
			body:   "a service account token for the audience job-executor-bridge is needed: it is not valid\n",
		},
		{
			name:   "a grant is for a service",
			method: "POST",
			path:   "/grant",
			task:   `{"project":"p"}`,
			bearer: "executor's",
			count:  current,
			status: 400,
			body:   "project, stage and service are needed\n",
		},
		{
			name:   "a grant is for a task",
			method: "POST",
			path:   "/grant",
			task:   "[]",
			bearer: "executor's",
			count:  current,
			status: 400,
			body:   "the task can't be read: json: cannot unmarshal array into Go value of type keptn.Task\n",
		},
		{
			name:   "that Keptn waits for",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			bearer: "executor's",
			count:  over,
			status: 410,
			body:   "Keptn no longer waits for task 1\n",
		},
		{
			name:   "and that it knows",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			bearer: "executor's",
			count:  keptn.Count{},
			status: 503,
			body:   "Keptn does not know task 1\n",
		},
		{
			name:   "if it is known",
			method: "POST",
			path:   "/grant",
			task:   string(wanted),
			bearer: "executor's",
			count:  over,
			err:    errDown,
			status: 502,
			body:   "it is down\n",
		},
		{
			name:   "a file of the service",
			method: "GET",
			path:   "/resource?level=service&path=x/y",
			bearer: valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage:s Service:v GitCommitID:c} x/y",
		},
		{
			name:   "a file of the stage",
			method: "GET",
			path:   "/resource?level=stage&path=x",
			bearer: valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage:s Service: GitCommitID:c} x",
		},
		{
			name:   "a file of the project, at no commit",
			method: "GET",
			path:   "/resource?level=project&path=x",
			bearer: valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage: Service: GitCommitID:} x",
		},
		{
			name:   "a listing",
			method: "GET",
			path:   "/resource?level=service",
			bearer: valid,
			count:  current,
			status: 200,
			body:   `["a","b/c"]`,
		},
		{
			name:   "no other level",
			method: "GET",
			path:   "/resource?level=all",
			bearer: valid,
			count:  current,
			status: 400,
			body:   "level must be service, stage or project\n",
		},
		{
			name:   "nothing without a grant",
			method: "GET",
			path:   "/resource?level=service&path=x",
			bearer: "executor's",
			count:  current,
			status: 401,
			body:   "a grant of the bridge is needed: it is no grant\n",
		},
		{
			name:   "what Keptn does not have",
			method: "GET",
			path:   "/resource?level=service&path=x",
			bearer: valid,
			count:  current,
			err:    &api.StatusError{Code: 404, Message: "Resource not found", Request: "GET /x", Own: true},
			status: 404,
			body:   "Keptn answered GET /x with 404: Resource not found\n",
		},
		{
			name:   "what a proxy says it does not have",
			method: "GET",
			path:   "/resource?level=service&path=x",
			bearer: valid,
			count:  current,
			err:    &api.StatusError{Code: 404, Message: "<html>", Request: "GET /x"},
			status: 502,
			body:   "Keptn answered GET /x with 404: <html>\n",
		},
		{
			name:   "what Keptn can't give",
			method: "GET",
			path:   "/resource?level=service&path=x",
			bearer: valid,
			count:  current,
			err:    errDown,
			status: 502,
			body:   "it is down\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gateway := &Gateway{
				Resources: resources{test.err},
				Counter:   &fixture.Counter{Answer: test.count, Err: test.err},
				Reporter:  fixture.Starter(false),
				Reviewer:  reviewer{"executor's": "executor", "other's": "other"},
				Grants:    grants,
				Subjects:  []string{"executor"},
				Cache:     NewCache(),
				Log:       discard,
			}
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
		"nobody has answered":                     {count: current},
		"Keptn has our started event":             {count: running, want: "true"},
		"it was heard of, and Keptn knows it not": {count: current, heard: true, want: "true"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := &Gateway{
				Counter: &fixture.Counter{Answer: test.count}, Reporter: fixture.Starter(test.heard), Reviewer: reviewer{"executor's": "executor"},
				Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
			}
			request := httptest.NewRequestWithContext(
				t.Context(),
				http.MethodPost,
				"/grant",
				strings.NewReader(`{"triggeredID":"1","project":"p","stage":"s","service":"v"}`),
			)
			request.Header.Set("Authorization", "Bearer executor's")
			recorder := httptest.NewRecorder()
			gateway.grant(recorder, request)
			if got := recorder.Header().Get(files.StartedHeader); recorder.Code != http.StatusOK || got != test.want {
				t.Errorf("got %d, %q", recorder.Code, got)
			}
		})
	}
}

// For what was only observed Keptn waits for nothing, and is not asked.
func TestGrantForWhatWasObserved(t *testing.T) {
	gateway := &Gateway{
		Counter: &fixture.Counter{Err: errDown}, Reporter: fixture.Starter(false), Reviewer: reviewer{"executor's": "executor"},
		Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
	}
	request := httptest.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		"/grant",
		strings.NewReader(`{"triggeredID":"1","project":"p","stage":"s","service":"v","observed":true}`),
	)
	request.Header.Set("Authorization", "Bearer executor's")
	recorder := httptest.NewRecorder()
	gateway.grant(recorder, request)
	if recorder.Code != http.StatusOK || recorder.Header().Get(files.StartedHeader) != "" {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
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
		{name: "a small file at a commit is asked for once", file: file{size: 1000}, commit: "c", want: []any{200, int64(1000), true, 1}},
		{name: "at no commit it may have changed", file: file{size: 1000}, want: []any{200, int64(1000), true, 2}},
		{name: "a large file is not kept", file: file{size: 10 << 20}, commit: "c", want: []any{200, int64(10 << 20), true, 2}},
		{name: "a too large file is cut off, not cut short", file: file{size: files.MaxFileBytes + 1}, commit: "c", want: []any{200, int64(0), false, 2}},
		{name: "so is one that breaks off", file: file{size: 10 << 20, broken: true}, commit: "c", want: []any{200, int64(0), false, 2}},
		{name: "one that breaks off early is an error", file: file{size: 10, broken: true}, commit: "c", want: []any{502, int64(len("it is down\n")), true, 2}},
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
