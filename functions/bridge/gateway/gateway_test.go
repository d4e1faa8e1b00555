package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/fixture"
)

// resources echoes the request.
type resources struct{ err error }

func (r resources) Resource(_ context.Context, scope api.ResourceScope, path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("%+v %s", scope, path))), r.err
}

func (r resources) ResourcePaths(context.Context, api.ResourceScope) ([]string, error) {
	return []string{"a", "b/c"}, r.err
}

// reviewer knows these tokens. It fails for the empty one.
type reviewer map[string]Identity

func (r reviewer) Review(_ context.Context, token string) (Identity, error) {
	if identity, ok := r[token]; ok {
		return identity, nil
	}
	if token == "" {
		return Identity{}, errDown
	}
	return Identity{}, ErrToken
}

const jobsNamespace = "jobs"

// podOf returns the identity of a pod.
func podOf(namespace, name string) Identity {
	return Identity{User: "system:serviceaccount:" + namespace + ":job", Pod: name}
}

var identities = reviewer{
	"executor's": {User: "executor"}, "other's": {User: "other"},
	"pod's": podOf(jobsNamespace, "job-1-000-000-abcde"), "other pod's": podOf(jobsNamespace, "job-2-000-000-abcde"),
	"other namespace's": podOf("others", "job-1-000-000-abcde"), "account's": {User: "system:serviceaccount:jobs:job"},
	"user's": {User: "jobs", Pod: "job-1-000-000-abcde"},
}

// signedBy accepts events with the attribute as if they were signed.
func signedBy(received event.Event) (event.Event, error) {
	switch received.Extensions()["signed"] {
	case nil:
		return event.Event{}, signature.ErrUnproven
	case "by a later release":
		return event.Event{}, signature.ErrNewer
	}
	return received, nil
}

// asking is a request for a grant, with the event of a task.
func asking(t *testing.T, task keptn.Task) *http.Request {
	t.Helper()
	triggered := fixture.Triggered(task)
	triggered.SetExtension("signed", "yes")
	if task.Observed {
		triggered.SetType(keptn.TypeOf(task.Name, keptn.Finished))
		triggered = keptn.Observed(triggered)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, files.GrantPath+"?namespace="+jobsNamespace, nil)
	if err := cehttp.WriteRequest(t.Context(), binding.ToMessage(&triggered), request); err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer executor's")
	return request
}

func TestGateway(t *testing.T) {
	wanted := keptn.Task{TriggeredID: "1", Name: "test", Context: fixture.Task.Context, Project: "p", Stage: "s", Service: "v", GitCommitID: "c"}
	over := aborted
	grants := newGrants(func() time.Time { return noon })
	says := Grant{Scope: api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"}, RunID: "1", Namespaces: []string{jobsNamespace}}
	valid, err := grants.Sign(says)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path, bearer, grant string
		// asking asks for a grant; nil asks for the path.
		asking func(request *http.Request)
		count  keptn.Count
		err    error
		status int
		body   string
		// cancelled are the tasks whose end is noted.
		cancelled []string
	}{
		{
			name:   "an executor gets a grant",
			asking: func(*http.Request) {},
			bearer: "executor's",
			count:  current,
			status: 200,
			body:   valid,
		},
		{
			name:   "other accounts get no grant",
			asking: func(*http.Request) {},
			bearer: "other's",
			count:  current,
			status: 403,
			body:   "other may not ask for grants\n",
		},
		{
			name:   "an unknown token gets no grant",
			asking: func(*http.Request) {},
			bearer: "nobody's",
			count:  current,
			status: 401,
			body:   "a service account token for the audience job-executor-bridge is needed: it is not valid\n",
		},
		{
			name:   "no grant while Kubernetes does not answer",
			asking: func(request *http.Request) { request.Header.Del("Authorization") },
			count:  current,
			status: 503,
			body:   "it is down\n",
		},
		{
			name:   "a grant needs an event",
			asking: func(request *http.Request) { request.Header.Del("Ce-Specversion") },
			bearer: "executor's",
			count:  current,
			status: 400,
			body:   "the event cannot be read: unknown Message encoding\n",
		},
		{
			name:   "a grant needs a signature of the bridge",
			asking: func(request *http.Request) { request.Header.Del("Ce-Signed") },
			bearer: "executor's",
			count:  current,
			status: 401,
			body:   signature.ErrUnproven.Error() + "\n",
		},
		{
			name:   "an event of a later release is asked for again",
			asking: func(request *http.Request) { request.Header.Set("Ce-Signed", "by a later release") },
			bearer: "executor's",
			count:  current,
			status: 503,
			body:   signature.ErrNewer.Error() + "\n",
		},
		{
			name:   "a grant needs an event of a task",
			asking: func(request *http.Request) { request.Header.Set("Ce-Type", "sh.keptn.event.test.finished") },
			bearer: "executor's",
			count:  current,
			status: 400,
			body:   "the event triggers no task: event 1 of type sh.keptn.event.test.finished: it triggers nothing\n",
		},
		{
			name:   "no grant for a completed task",
			asking: func(*http.Request) {},
			bearer: "executor's",
			count:  fixture.Completed,
			status: 410,
			body:   "Keptn no longer waits for task 1\n",
		},
		{
			name:      "no grant for a task that was aborted before its run began, whose end is noted",
			asking:    func(*http.Request) {},
			bearer:    "executor's",
			count:     aborted,
			status:    410,
			body:      "Keptn no longer waits for task 1\n",
			cancelled: []string{"1"},
		},
		{
			name:   "no grant for a task that was aborted later",
			asking: func(*http.Request) {},
			bearer: "executor's",
			count:  keptn.Count{Standing: keptn.Aborted, Started: 1},
			status: 410,
			body:   "Keptn no longer waits for task 1\n",
		},
		{
			name:   "no grant for an unknown task",
			asking: func(*http.Request) {},
			bearer: "executor's",
			count:  keptn.Count{},
			status: 503,
			body:   "Keptn does not know task 1\n",
		},
		{
			name:   "a grant for a task that becomes known",
			asking: func(*http.Request) {},
			bearer: "executor's",
			count:  over,
			err:    errDown,
			status: 502,
			body:   "it is down\n",
		},
		{
			name:   "a file of the service",
			path:   "/resource?level=service&path=x/y",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage:s Service:v GitCommitID:c} x/y",
		},
		{
			name:   "a file of the stage",
			path:   "/resource?level=stage&path=x",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage:s Service: GitCommitID:c} x",
		},
		{
			name:   "a file of the project, at no commit",
			path:   "/resource?level=project&path=x",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage: Service: GitCommitID:} x",
		},
		{
			name:   "a listing",
			path:   "/resource?level=service",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			status: 200,
			body:   `["a","b/c"]`,
		},
		{
			name:   "an unknown level is refused",
			path:   "/resource?level=all",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			status: 400,
			body:   "level must be service, stage or project\n",
		},
		{
			name:   "a file needs a grant",
			path:   "/resource?level=service&path=x",
			bearer: "executor's",
			count:  current,
			status: 401,
			body:   "a grant of the bridge is needed: it is no grant\n",
		},
		{
			name:   "an executor reads files with a grant",
			path:   "/resource?level=service&path=x",
			bearer: "executor's",
			grant:  valid,
			count:  current,
			status: 200,
			body:   "{Project:p Stage:s Service:v GitCommitID:c} x",
		},
		{
			name:   "a pod of another run is refused",
			path:   "/resource?level=service&path=x",
			bearer: "other pod's",
			grant:  valid,
			count:  current,
			status: 403,
			body:   "the grant is for the pods of run 1, and not for system:serviceaccount:jobs:job\n",
		},
		{
			name:   "a pod in another namespace is refused",
			path:   "/resource?level=service&path=x",
			bearer: "other namespace's",
			grant:  valid,
			count:  current,
			status: 403,
			body:   "the grant is for the pods of run 1, and not for system:serviceaccount:others:job\n",
		},
		{
			name:   "an account without a pod is refused",
			path:   "/resource?level=service&path=x",
			bearer: "account's",
			grant:  valid,
			count:  current,
			status: 403,
			body:   "the grant is for the pods of run 1, and not for system:serviceaccount:jobs:job\n",
		},
		{
			name:   "a user is refused",
			path:   "/resource?level=service&path=x",
			bearer: "user's",
			grant:  valid,
			count:  current,
			status: 403,
			body:   "the grant is for the pods of run 1, and not for jobs\n",
		},
		{
			name:   "a request without a token is refused",
			path:   "/resource?level=service&path=x",
			bearer: "nobody's",
			grant:  valid,
			count:  current,
			status: 401,
			body:   "a service account token for the audience job-executor-bridge is needed: it is not valid\n",
		},
		{
			name:   "a missing file",
			path:   "/resource?level=service&path=x",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			err:    &api.StatusError{Code: 404, Message: "Resource not found", Request: "GET /x", Own: true},
			status: 404,
			body:   "Keptn answered GET /x with 404: Resource not found\n",
		},
		{
			name:   "a 404 of a proxy is an error",
			path:   "/resource?level=service&path=x",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			err:    &api.StatusError{Code: 404, Message: "<html>", Request: "GET /x"},
			status: 502,
			body:   "Keptn answered GET /x with 404: <html>\n",
		},
		{
			name:   "an unreadable file",
			path:   "/resource?level=service&path=x",
			bearer: "pod's",
			grant:  valid,
			count:  current,
			err:    errDown,
			status: 502,
			body:   "it is down\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var cancelled []string
			gateway := &Gateway{
				Resources: resources{test.err},
				Counter:   &fixture.Counter{Answer: test.count, Err: test.err},
				Reporter:  fixture.Starter(false),
				Cancelled: func(_ context.Context, task keptn.Task) { cancelled = append(cancelled, task.TriggeredID) },
				Reviewer:  identities,
				Verify:    signedBy,
				Grants:    grants,
				Subjects:  []string{"executor"},
				Cache:     NewCache(),
				Log:       discard,
			}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			request := asking(t, wanted)
			if test.asking == nil {
				request = httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil)
			}
			request.Header.Set("Authorization", "Bearer "+test.bearer)
			request.Header.Set(files.GrantHeader, test.grant)
			if test.asking != nil {
				test.asking(request)
			}
			recorder := httptest.NewRecorder()
			mux.ServeHTTP(recorder, request)
			body, err := io.ReadAll(recorder.Body)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff([]any{test.status, test.body, test.cancelled}, []any{recorder.Code, string(body), cancelled}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// The grant says that a run has begun, so that the executor does not begin it again.
func TestGrantTellsThatARunHasBegun(t *testing.T) {
	for name, test := range map[string]struct {
		count keptn.Count
		heard bool
		want  string
	}{
		"nobody has answered":                   {count: current},
		"Keptn has our started event":           {count: running, want: "true"},
		"an answer was heard, unknown to Keptn": {count: current, heard: true, want: "true"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := &Gateway{
				Counter: &fixture.Counter{Answer: test.count}, Reporter: fixture.Starter(test.heard), Reviewer: identities, Verify: signedBy,
				Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
			}
			recorder := httptest.NewRecorder()
			gateway.grant(recorder, asking(t, fixture.Task))
			if got := recorder.Header().Get(files.StartedHeader); recorder.Code != http.StatusOK || got != test.want {
				t.Errorf("got %d, %q", recorder.Code, got)
			}
		})
	}
}

// Keptn does not wait for an observed event, and is not asked.
func TestGrantForWhatWasObserved(t *testing.T) {
	gateway := &Gateway{
		Counter: &fixture.Counter{Err: errDown}, Reporter: fixture.Starter(false), Reviewer: identities, Verify: signedBy,
		Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
	}
	observed := fixture.Task
	observed.Observed = true
	recorder := httptest.NewRecorder()
	gateway.grant(recorder, asking(t, observed))
	if recorder.Code != http.StatusOK || recorder.Header().Get(files.StartedHeader) != "" {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
}

// file has a number of bytes. Reading the last one fails if it is broken.
type file struct {
	size   int
	broken bool
	asked  int
}

func (f *file) Resource(context.Context, api.ResourceScope, string) (io.ReadCloser, error) {
	f.asked++
	content := io.LimitReader(zeros{}, int64(f.size))
	if f.broken {
		content = io.MultiReader(content, iotest.ErrReader(errDown))
	}
	return io.NopCloser(content), nil
}

func (f *file) ResourcePaths(context.Context, api.ResourceScope) ([]string, error) {
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
		{name: "a small file at a commit is read once", file: file{size: 1000}, commit: "c", want: []any{200, int64(1000), true, 1}},
		{name: "a file without a commit is read again", file: file{size: 1000}, want: []any{200, int64(1000), true, 2}},
		{name: "a large file is not cached", file: file{size: 10 << 20}, commit: "c", want: []any{200, int64(10 << 20), true, 2}},
		{
			name:   "a response over the limit is aborted",
			file:   file{size: files.MaxFileBytes + 1},
			commit: "c",
			want:   []any{200, int64(0), false, 2},
		},
		{name: "a broken response is aborted", file: file{size: 10 << 20, broken: true}, commit: "c", want: []any{200, int64(0), false, 2}},
		{
			name:   "a response that breaks early is an error",
			file:   file{size: 10, broken: true},
			commit: "c",
			want:   []any{502, int64(len("it is down\n")), true, 2},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grants := newGrants(time.Now)
			gateway := &Gateway{
				Resources: &test.file,
				Reviewer:  identities,
				Subjects:  []string{"executor"},
				Grants:    grants,
				Cache:     NewCache(),
				Log:       discard,
			}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			server := httptest.NewServer(mux)
			defer server.Close()
			grant, err := grants.Sign(Grant{Scope: api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: test.commit}})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/resource?level=service&path=x", nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer executor's")
				request.Header.Set(files.GrantHeader, grant)
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

// slowKeptn counts after a pause, and counts its calls.
type slowKeptn struct {
	pause  time.Duration
	counts atomic.Int32
}

func (s *slowKeptn) Count(ctx context.Context, _ keptn.Task) (keptn.Count, error) {
	s.counts.Add(1)
	select {
	case <-ctx.Done():
		return keptn.Count{}, ctx.Err()
	case <-time.After(s.pause):
		return current, nil
	}
}

// Keptn needs 28 s for each of two calls, and an executor waits for less (F64).
func TestGrantIsGivenThoughKeptnIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowKeptn{pause: 56 * time.Second}
		gateway := &Gateway{
			Counter: slow, Reporter: fixture.Starter(false), Reviewer: identities, Verify: signedBy,
			Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
		}
		ask := func() int {
			ctx, cancel := context.WithTimeout(t.Context(), files.CallTimeout)
			defer cancel()
			recorder := httptest.NewRecorder()
			gateway.grant(recorder, asking(t, fixture.Task).WithContext(ctx))
			return recorder.Code
		}
		if code := ask(); code != http.StatusBadGateway {
			t.Errorf("the first answer is %d", code)
		}
		time.Sleep(10 * time.Second)
		if code := ask(); code != http.StatusOK || slow.counts.Load() != 1 {
			t.Errorf("the second answer is %d, after %d counts", code, slow.counts.Load())
		}
		// A count that was kept for too long may be wrong.
		ask()
		time.Sleep(10*time.Second + countLifetime)
		if ask(); slow.counts.Load() != 3 {
			t.Errorf("Keptn was asked %d times, want 3", slow.counts.Load())
		}
		time.Sleep(countTimeout)
	})
}
