package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/signature"
)

// Resources reads the files of Keptn's projects, as api.Client does.
type Resources interface {
	// Resource returns a file's content. The caller closes it.
	Resource(ctx context.Context, scope api.ResourceScope, path string) (io.ReadCloser, error)
	ResourcePaths(ctx context.Context, scope api.ResourceScope) ([]string, error)
}

// Reviewer identifies the owner of a service account token.
type Reviewer interface {
	// Review returns the owner, ErrToken for an invalid token, and any other error if Kubernetes cannot be
	// asked.
	Review(ctx context.Context, token string) (Identity, error)
}

// Gateway serves the files of Keptn's projects. Package files has its protocol.
type Gateway struct {
	Resources Resources
	Counter   keptn.Counter
	// Reporter knows answers that Keptn has not counted yet.
	Reporter keptn.Starter
	Reviewer Reviewer
	// Cancelled is called for a task whose sequence was aborted before its run began, because no answer says that it ended.
	Cancelled func(ctx context.Context, task keptn.Task)
	// Verify returns the part of an event that the bridge has signed, signature.ErrUnproven if the signature is missing or invalid, and
	// another error if it cannot be verified yet.
	Verify func(received event.Event) (event.Event, error)
	Grants *Grants
	// Subjects are the users that may ask for grants.
	Subjects []string
	// Cache has small files at commits, which never change.
	Cache *Cache
	Log   *slog.Logger

	counts counts
}

// Cache has the most recently used small files at commits, at most 16 MiB.
type Cache = lru.Cache[cachedFile, []byte]

type cachedFile struct {
	scope api.ResourceScope
	path  string
}

const (
	cachedFiles    = 256
	maxCachedBytes = 64 << 10
)

// NewCache returns an empty cache.
func NewCache() *Cache {
	cache, _ := lru.New[cachedFile, []byte](cachedFiles) // it only fails for a size that is not positive
	return cache
}

// Routes returns the gateway's HTTP handlers.
func (g *Gateway) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		http.MethodPost + " " + files.GrantPath:   http.HandlerFunc(g.grant),
		http.MethodGet + " " + files.ResourcePath: http.HandlerFunc(g.resource),
	}
}

// maxEventBytes bounds an event. Keptn's are never larger.
const maxEventBytes = 4 << 20

// grant signs a grant for the task of an event that the bridge has signed and that Keptn still waits for. So a
// late delivery, after the task ended and perhaps after its Jobs expired, runs nothing.
func (g *Gateway) grant(writer http.ResponseWriter, request *http.Request) {
	// The signature is checked first, because that does not cost the API server anything.
	request.Body = http.MaxBytesReader(writer, request.Body, maxEventBytes)
	received, err := cehttp.NewEventFromHTTPRequest(request)
	if err != nil {
		http.Error(writer, "the event cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	verified, err := g.Verify(*received)
	if errors.Is(err, signature.ErrUnproven) {
		http.Error(writer, err.Error(), http.StatusUnauthorized)
		return
	}
	if err != nil {
		http.Error(writer, err.Error(), http.StatusServiceUnavailable)
		return
	}
	asker, ok := g.identify(writer, request)
	if !ok {
		return
	}
	if !slices.Contains(g.Subjects, asker.User) {
		http.Error(writer, asker.User+" may not ask for grants", http.StatusForbidden)
		return
	}
	task, _, err := keptn.ParseReceived(verified)
	if err != nil {
		http.Error(writer, "the event triggers no task: "+err.Error(), http.StatusBadRequest)
		return
	}
	count, ok := g.isWanted(request.Context(), writer, task)
	if !ok {
		return
	}
	grant, err := g.Grants.Sign(Grant{
		Scope: api.ResourceScope{Project: task.Project, Stage: task.Stage, Service: task.Service, GitCommitID: task.GitCommitID},
		RunID: run.ID(task.TriggeredID), Namespaces: request.URL.Query()[files.NamespaceParameter],
	})
	if err != nil {
		g.Log.ErrorContext(request.Context(), "signing a grant failed", "error", err)
		http.Error(writer, "the grant could not be signed", http.StatusInternalServerError)
		return
	}
	// A standby bridge does not know started runs.
	if begun, err := g.Reporter.HasStarted(request.Context(), task); count.Started > 0 || err == nil && begun {
		// A run has begun. It must not begin again, even if its Jobs are gone.
		writer.Header().Set(files.StartedHeader, "true")
	}
	writer.Header().Set("Content-Type", "application/jwt")
	_, _ = writer.Write([]byte(grant))
}

// identify returns the owner of the request's token. For an unknown owner, identify writes the response
// and returns false.
func (g *Gateway) identify(writer http.ResponseWriter, request *http.Request) (Identity, bool) {
	asker, err := g.Reviewer.Review(request.Context(), bearer(request))
	switch {
	case errors.Is(err, ErrToken):
		http.Error(writer, "a service account token for the audience "+files.TokenAudience+" is needed: "+err.Error(), http.StatusUnauthorized)
	case err != nil:
		g.Log.WarnContext(request.Context(), "reviewing a token failed", "error", err)
		http.Error(writer, err.Error(), http.StatusServiceUnavailable)
	}
	return asker, err == nil
}

const (
	unknownRetries = 5
	unknownPause   = 200 * time.Millisecond
)

// isWanted reports whether Keptn waits for a task, with its counts. If not, it writes the response. An observed
// event is always wanted.
func (g *Gateway) isWanted(ctx context.Context, writer http.ResponseWriter, task keptn.Task) (keptn.Count, bool) {
	if task.Observed {
		return keptn.Count{}, true
	}
	count, err := g.counts.get(ctx, task, g.Counter)
	for range unknownRetries {
		// Another service may have published the event just now, and mongodb-datastore not have stored it yet.
		if err != nil || count.Standing != keptn.Unknown {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(unknownPause):
		}
		count, err = g.counts.get(ctx, task, g.Counter)
	}
	switch {
	case err != nil:
		g.Log.WarnContext(ctx, "counting a task failed", "triggeredid", task.TriggeredID, "error", err)
		http.Error(writer, err.Error(), http.StatusBadGateway)
	case count.Over():
		if count.Standing == keptn.Aborted && count.Started == 0 {
			g.Cancelled(ctx, task)
		}
		http.Error(writer, "Keptn no longer waits for task "+task.TriggeredID, http.StatusGone)
	case count.Standing == keptn.Unknown:
		http.Error(writer, "Keptn does not know task "+task.TriggeredID, http.StatusServiceUnavailable)
	default:
		return count, true
	}
	return keptn.Count{}, false
}

func (g *Gateway) resource(writer http.ResponseWriter, request *http.Request) {
	grant, err := g.Grants.Check(request.Header.Get(files.GrantHeader))
	if err != nil {
		http.Error(writer, "a grant of the bridge is needed: "+err.Error(), http.StatusUnauthorized)
		return
	}
	asker, ok := g.identify(writer, request)
	if !ok {
		return
	}
	if !slices.Contains(g.Subjects, asker.User) && !grant.isFor(asker) {
		http.Error(writer, "the grant is for the pods of run "+grant.RunID+", and not for "+asker.User, http.StatusForbidden)
		return
	}
	scope := grant.Scope
	query := request.URL.Query()
	switch files.Level(query.Get(files.LevelParameter)) {
	case files.ServiceLevel:
	case files.StageLevel:
		scope.Service = ""
	case files.ProjectLevel:
		// The project's level may be on another branch, without the event's commit.
		scope.Stage, scope.Service, scope.GitCommitID = "", "", ""
	default:
		http.Error(writer, "level must be service, stage or project", http.StatusBadRequest)
		return
	}
	path := query.Get(files.PathParameter)
	begun, err := g.serve(request.Context(), writer, scope, path)
	if err == nil {
		return
	}
	notFound := api.IsNotFound(err)
	if !notFound {
		g.Log.WarnContext(request.Context(), "reading a file from Keptn failed", "path", path, "error", err)
	}
	switch {
	case begun:
		panic(http.ErrAbortHandler) // so that the client notices the truncation
	case notFound:
		http.Error(writer, err.Error(), http.StatusNotFound)
	default:
		http.Error(writer, err.Error(), http.StatusBadGateway)
	}
}

// serve writes a file, or the list of all paths. Begun is true if a part of the response was written.
func (g *Gateway) serve(ctx context.Context, writer http.ResponseWriter, scope api.ResourceScope, path string) (begun bool, err error) {
	opened, err := g.open(ctx, scope, path)
	if err != nil {
		return false, err
	}
	reader := http.MaxBytesReader(nil, opened, files.MaxFileBytes)
	defer func() { _ = reader.Close() }()
	// Most files fit into the first part. It is read before the response starts, so that an error can still be
	// reported.
	content, err := io.ReadAll(io.LimitReader(reader, maxCachedBytes))
	if err != nil {
		return false, err
	}
	if scope.GitCommitID != "" && path != "" && len(content) < maxCachedBytes {
		g.Cache.Add(cachedFile{scope, path}, content) // a file at a commit never changes
	}
	writer.Header().Set("Content-Type", "application/octet-stream")
	_, _ = writer.Write(content)
	_, err = io.Copy(writer, reader)
	return true, err
}

func (g *Gateway) open(ctx context.Context, scope api.ResourceScope, path string) (io.ReadCloser, error) {
	if path == "" {
		paths, err := g.Resources.ResourcePaths(ctx, scope)
		if err != nil {
			return nil, err
		}
		content, err := json.Marshal(paths)
		if err != nil {
			return nil, fmt.Errorf("encode the list of files: %w", err)
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	if content, ok := g.Cache.Get(cachedFile{scope, path}); ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return g.Resources.Resource(ctx, scope, path)
}

func bearer(request *http.Request) string {
	token, _ := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	return token
}
