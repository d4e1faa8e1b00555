package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Resources are the files of Keptn's projects, as keptn.Client reads them.
type Resources interface {
	// Resource returns a file's content, which the caller closes.
	Resource(ctx context.Context, scope keptn.ResourceScope, path string) (io.ReadCloser, error)
	ResourcePaths(ctx context.Context, scope keptn.ResourceScope) ([]string, error)
}

// Reviewer says whose service account token it is.
type Reviewer interface {
	// Review returns the user's name, or an error if the token is not valid for us.
	Review(ctx context.Context, token string) (string, error)
}

// Gateway lets executors and fetchers read files of Keptn's projects.
//
//	POST /grant                 with a task as JSON, and a service account token
//	GET  /resource?level&path   with a grant
//
// The level is service, stage or project; without a path the paths of all files
// are returned, as a JSON list.
type Gateway struct {
	Resources Resources
	Counter   keptn.Counter
	// Reporter knows of answers that Keptn has not counted.
	Reporter Starter
	Reviewer Reviewer
	Grants   *Grants
	// Subjects are the user names that may ask for grants.
	Subjects []string
	// Cache keeps small files at commits, which never change.
	Cache *FileCache
	Log   *slog.Logger
}

// FileCache holds the most recently used of small files, in at most 16 MiB.
type FileCache struct {
	files *lru.Cache[cachedFile, []byte]
}

type cachedFile struct {
	scope keptn.ResourceScope
	path  string
}

const (
	cachedFiles    = 256
	maxCachedBytes = 64 << 10
	// maxFileBytes bounds a file, as the fetcher does.
	maxFileBytes = 64 << 20
)

// NewFileCache returns an empty cache.
func NewFileCache() *FileCache {
	files, err := lru.New[cachedFile, []byte](cachedFiles)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &FileCache{files: files}
}

// Routes are the gateway's HTTP handlers.
func (gateway *Gateway) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		"POST /grant":   http.HandlerFunc(gateway.grant),
		"GET /resource": http.HandlerFunc(gateway.resource),
	}
}

// TaskStartedHeader of a grant says that Keptn has a started event of ours for the task.
const TaskStartedHeader = "Task-Started"

// maxTaskBytes bounds a task; an event's labels are the largest part of it.
const maxTaskBytes = 1 << 20

// grant gives a grant for a task that Keptn still waits for. So an event that is
// delivered once more after its task ended, and perhaps after its Jobs expired,
// runs nothing.
func (gateway *Gateway) grant(writer http.ResponseWriter, request *http.Request) {
	user, err := gateway.Reviewer.Review(request.Context(), bearer(request))
	if err != nil {
		http.Error(writer, "a service account token for the audience "+TokenAudience+" is needed: "+err.Error(), http.StatusUnauthorized)
		return
	}
	if !slices.Contains(gateway.Subjects, user) {
		http.Error(writer, user+" may not ask for grants", http.StatusForbidden)
		return
	}
	var task keptn.Task
	if err := json.NewDecoder(http.MaxBytesReader(writer, request.Body, maxTaskBytes)).Decode(&task); err != nil {
		http.Error(writer, "the task can't be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if task.Project == "" || task.Stage == "" || task.Service == "" {
		http.Error(writer, "project, stage and service are needed", http.StatusBadRequest)
		return
	}
	count, err := gateway.Counter.Count(request.Context(), task)
	switch {
	case err != nil:
		gateway.Log.WarnContext(request.Context(), "asking Keptn about a task failed", "triggeredid", task.TriggeredID, "error", err)
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	case count.Over():
		http.Error(writer, "Keptn no longer waits for task "+task.TriggeredID, http.StatusGone)
		return
	case count.Standing == keptn.Unknown:
		http.Error(writer, "Keptn does not know task "+task.TriggeredID, http.StatusServiceUnavailable)
		return
	}
	grant, err := gateway.Grants.Sign(keptn.ResourceScope{
		Project: task.Project, Stage: task.Stage, Service: task.Service, GitCommitID: task.GitCommitID,
	})
	if err != nil {
		gateway.Log.ErrorContext(request.Context(), "signing a grant failed", "error", err)
		http.Error(writer, "the grant could not be signed", http.StatusInternalServerError)
		return
	}
	// A bridge that is not elected has heard of nothing.
	if begun, err := gateway.Reporter.HasStarted(request.Context(), task); count.Started > 0 || err == nil && begun {
		// A run of it has begun; what is gone of it must not begin once more.
		writer.Header().Set(TaskStartedHeader, "true")
	}
	writer.Header().Set("Content-Type", "application/jwt")
	_, _ = writer.Write([]byte(grant))
}

func (gateway *Gateway) resource(writer http.ResponseWriter, request *http.Request) {
	scope, err := gateway.Grants.Check(bearer(request))
	if err != nil {
		http.Error(writer, "a grant of the bridge is needed: "+err.Error(), http.StatusUnauthorized)
		return
	}
	query := request.URL.Query()
	switch query.Get("level") {
	case "service":
	case "stage":
		scope.Service = ""
	case "project":
		// The project's level may be on a branch of its own, which does not have
		// the event's commit.
		scope.Stage, scope.Service, scope.GitCommitID = "", "", ""
	default:
		http.Error(writer, "level must be service, stage or project", http.StatusBadRequest)
		return
	}
	path := query.Get("path")
	immutable := scope.GitCommitID != "" && path != "" // a file at a commit
	if immutable {
		tag := `"` + scope.GitCommitID + `"`
		writer.Header().Set("ETag", tag)
		writer.Header().Set("Cache-Control", "private, immutable")
		if request.Header.Get("If-None-Match") == tag {
			writer.WriteHeader(http.StatusNotModified)
			return
		}
	}
	reader, err := gateway.open(request.Context(), scope, path)
	if err != nil {
		gateway.refuse(writer, request, err)
		return
	}
	defer func() { _ = reader.Close() }()
	// The first part is read before anything is answered: most files have no other,
	// and what fails can still be told.
	content, err := io.ReadAll(io.LimitReader(reader, maxCachedBytes))
	if err != nil {
		gateway.refuse(writer, request, err)
		return
	}
	if immutable && len(content) < maxCachedBytes {
		gateway.Cache.files.Add(cachedFile{scope, path}, content)
	}
	writer.Header().Set("Content-Type", "application/octet-stream")
	_, _ = writer.Write(content)
	if len(content) < maxCachedBytes {
		return
	}
	copied, err := io.Copy(writer, io.LimitReader(reader, maxFileBytes-maxCachedBytes+1))
	if err == nil && copied > maxFileBytes-maxCachedBytes {
		err = fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	if err != nil {
		gateway.Log.WarnContext(request.Context(), "reading a file from Keptn failed", "path", path, "error", err)
		panic(http.ErrAbortHandler) // so that what was sent is not taken for all of it
	}
}

// refuse answers why a file can't be had.
func (gateway *Gateway) refuse(writer http.ResponseWriter, request *http.Request, err error) {
	writer.Header().Del("ETag")
	writer.Header().Del("Cache-Control")
	if keptn.IsNotFound(err) {
		http.Error(writer, err.Error(), http.StatusNotFound)
		return
	}
	gateway.Log.WarnContext(request.Context(), "reading a file from Keptn failed", "path", request.URL.Query().Get("path"), "error", err)
	http.Error(writer, err.Error(), http.StatusBadGateway)
}

func (gateway *Gateway) open(ctx context.Context, scope keptn.ResourceScope, path string) (io.ReadCloser, error) {
	if path == "" {
		paths, err := gateway.Resources.ResourcePaths(ctx, scope)
		if err != nil {
			return nil, err
		}
		content, err := json.Marshal(paths)
		if err != nil {
			return nil, fmt.Errorf("encoding the list of files: %w", err)
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	if content, ok := gateway.Cache.files.Get(cachedFile{scope, path}); ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return gateway.Resources.Resource(ctx, scope, path)
}

func bearer(request *http.Request) string {
	token, _ := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	return token
}

// TokenAudience is the audience of the service account tokens that are taken.
const TokenAudience = "job-executor-bridge"

// TokenReviewer asks Kubernetes whose token it is.
type TokenReviewer struct {
	Client authenticationclient.TokenReviewInterface
}

// Review returns the user's name, or an error if the token is not valid for us.
func (reviewer *TokenReviewer) Review(ctx context.Context, token string) (string, error) {
	if token == "" {
		return "", fmt.Errorf("there is none")
	}
	review, err := reviewer.Client.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{TokenAudience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking Kubernetes about it: %w", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, TokenAudience) {
		return "", fmt.Errorf("it is not valid")
	}
	return review.Status.User.Username, nil
}
