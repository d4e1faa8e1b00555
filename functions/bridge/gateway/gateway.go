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
)

// Resources are the files of Keptn's projects, as api.Client reads them.
type Resources interface {
	// Resource returns a file's content, which the caller closes.
	Resource(ctx context.Context, scope api.ResourceScope, path string) (io.ReadCloser, error)
	ResourcePaths(ctx context.Context, scope api.ResourceScope) ([]string, error)
}

// Reviewer says whose service account token it is.
type Reviewer interface {
	// Review returns whose it is, or ErrToken if it is not valid for us; any other error is that
	// nobody could be asked.
	Review(ctx context.Context, token string) (Identity, error)
}

// Gateway lets executors and fetchers read files of Keptn's projects, as package files
// says.
type Gateway struct {
	Resources Resources
	Counter   keptn.Counter
	// Reporter knows of answers that Keptn has not counted.
	Reporter keptn.Starter
	Reviewer Reviewer
	// Verify returns of an event what the bridge has signed, an error if it has not.
	Verify func(received event.Event) (event.Event, error)
	Grants *Grants
	// Subjects are the user names that may ask for grants.
	Subjects []string
	// Cache keeps small files at commits, which never change.
	Cache *Cache
	Log   *slog.Logger

	counts counts
}

// Cache holds the most recently used of small files at commits, in at most 16 MiB.
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
	cache, _ := lru.New[cachedFile, []byte](cachedFiles) // it fails only for a size that is not positive
	return cache
}

// Routes are the gateway's HTTP handlers.
func (g *Gateway) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		http.MethodPost + " " + files.GrantPath:   http.HandlerFunc(g.grant),
		http.MethodGet + " " + files.ResourcePath: http.HandlerFunc(g.resource),
	}
}

// maxEventBytes bounds an event; Keptn has none that is larger.
const maxEventBytes = 4 << 20

// grant gives a grant for the task of an event that the bridge has signed, so that it is
// for what Keptn said, and that Keptn still waits for. So an event that is
// delivered once more after its task ended, and perhaps after its Jobs expired,
// runs nothing.
func (g *Gateway) grant(writer http.ResponseWriter, request *http.Request) {
	// The signature is checked first: that costs the API server nothing.
	request.Body = http.MaxBytesReader(writer, request.Body, maxEventBytes)
	received, err := cehttp.NewEventFromHTTPRequest(request)
	if err != nil {
		http.Error(writer, "the event can't be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	verified, err := g.Verify(*received)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusUnauthorized)
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
	// A bridge that is not elected has heard of nothing.
	if begun, err := g.Reporter.HasStarted(request.Context(), task); count.Started > 0 || err == nil && begun {
		// A run of it has begun; what is gone of it must not begin once more.
		writer.Header().Set(files.StartedHeader, "true")
	}
	writer.Header().Set("Content-Type", "application/jwt")
	_, _ = writer.Write([]byte(grant))
}

// identify says who asks; if that is not known, that is the answer.
func (g *Gateway) identify(writer http.ResponseWriter, request *http.Request) (Identity, bool) {
	asker, err := g.Reviewer.Review(request.Context(), bearer(request))
	switch {
	case errors.Is(err, ErrToken):
		http.Error(writer, "a service account token for the audience "+files.TokenAudience+" is needed: "+err.Error(), http.StatusUnauthorized)
	case err != nil:
		g.Log.WarnContext(request.Context(), "asking Kubernetes about a token failed", "error", err)
		http.Error(writer, err.Error(), http.StatusServiceUnavailable)
	}
	return asker, err == nil
}

const (
	unknownRetries = 5
	unknownPause   = 200 * time.Millisecond
)

// isWanted says whether Keptn waits for a task, and what it has counted of it; if not, that
// is the answer. What was only observed nobody waits for, and is always wanted.
func (g *Gateway) isWanted(ctx context.Context, writer http.ResponseWriter, task keptn.Task) (keptn.Count, bool) {
	if task.Observed {
		return keptn.Count{}, true
	}
	count, err := g.counts.get(ctx, task, g.Counter)
	for range unknownRetries {
		// Its event may have been published by another service just now, and not be stored yet.
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
		g.Log.WarnContext(ctx, "asking Keptn about a task failed", "triggeredid", task.TriggeredID, "error", err)
		http.Error(writer, err.Error(), http.StatusBadGateway)
	case count.Over():
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
		// The project's level may be on a branch of its own, which does not have
		// the event's commit.
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
		panic(http.ErrAbortHandler) // so that what was sent is not taken for all of it
	case notFound:
		http.Error(writer, err.Error(), http.StatusNotFound)
	default:
		http.Error(writer, err.Error(), http.StatusBadGateway)
	}
}

// serve answers with a file, or the paths of all. Begun says whether a part of it was
// sent.
func (g *Gateway) serve(ctx context.Context, writer http.ResponseWriter, scope api.ResourceScope, path string) (begun bool, err error) {
	opened, err := g.open(ctx, scope, path)
	if err != nil {
		return false, err
	}
	reader := http.MaxBytesReader(nil, opened, files.MaxFileBytes)
	defer func() { _ = reader.Close() }()
	// The first part is read before anything is answered: most files have no other,
	// and what fails can still be told.
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
			return nil, fmt.Errorf("encoding the list of files: %w", err)
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
