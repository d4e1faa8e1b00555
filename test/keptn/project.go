package keptn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	shipyard "github.com/keptn/go-utils/pkg/lib/v0_2_0"
	"go.yaml.in/yaml/v4"
)

// project is a Keptn project: its shipyard and its Git repository, in Keptn's layout with directories for
// stages.
type project struct {
	name         string
	shipyard     shipyard.Shipyard
	shipyardYAML []byte
	credentials  map[string]any
	services     []string
	createdAt    time.Time

	directory  string
	repository *git.Repository
	// known are files at commits. They never change.
	known map[[2]string][]byte
}

// stagesDirectory is the directory of the stages in a repository.
const stagesDirectory = ".keptn-stages"

// CreateProject creates a project with services in all its stages.
func (s *Server) CreateProject(name string, shipyardYAML []byte, services ...string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.createProject(name, shipyardYAML); err != nil {
		return err
	}
	if len(services) == 0 {
		return nil
	}
	return s.projects[name].createServices(services...)
}

func (s *Server) createProject(name string, shipyardYAML []byte) error {
	created := &project{name: name, shipyardYAML: shipyardYAML, createdAt: time.Now(), known: map[[2]string][]byte{}}
	if err := yaml.Unmarshal(shipyardYAML, &created.shipyard); err != nil {
		return fmt.Errorf("read the shipyard: %w", err)
	}
	var err error
	if created.directory, err = repositoryDirectory(s.options, name); err != nil {
		return err
	}
	if created.repository, err = git.PlainInit(created.directory, false); err != nil {
		return fmt.Errorf("create the repository: %w", err)
	}
	if _, err := created.write("", map[string][]byte{"shipyard.yaml": shipyardYAML, "metadata.yaml": []byte("projectname: " + name + "\n")}); err != nil {
		return err
	}
	for _, stage := range created.shipyard.Spec.Stages {
		if _, err := created.write(path.Join(stagesDirectory, stage.Name), map[string][]byte{"metadata.yaml": []byte("stagename: " + stage.Name + "\n")}); err != nil {
			return err
		}
	}
	s.projects[name] = created
	return nil
}

// created is the time of creation in nanoseconds.
func (p *project) created() string { return strconv.FormatInt(p.createdAt.UnixNano(), 10) }

func (p *project) createServices(names ...string) error {
	p.services = append(p.services, names...)
	for _, stage := range p.shipyard.Spec.Stages {
		files := map[string][]byte{}
		for _, name := range names {
			files[path.Join(name, "metadata.yaml")] = []byte("servicename: " + name + "\n")
		}
		if _, err := p.write(path.Join(stagesDirectory, stage.Name), files); err != nil {
			return err
		}
	}
	return nil
}

// write commits files below a directory and returns the commit.
func (p *project) write(directory string, files map[string][]byte) (string, error) {
	tree, err := p.repository.Worktree()
	if err != nil {
		return "", fmt.Errorf("open the work tree: %w", err)
	}
	for name, content := range files {
		target := filepath.Join(p.directory, directory, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, content, 0o600)); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
		// Skip the status of other files, which takes longer the more files there are.
		if err := tree.AddWithOptions(&git.AddOptions{Path: path.Join(directory, name), SkipStatus: true}); err != nil {
			return "", fmt.Errorf("add %s: %w", name, err)
		}
	}
	commit, err := tree.Commit("Updated resource", &git.CommitOptions{
		AllowEmptyCommits: true, Author: &object.Signature{Name: "keptn", Email: "keptn@keptn.sh", When: time.Now()},
	})
	if err != nil {
		return "", fmt.Errorf("committing: %w", err)
	}
	return commit.String(), nil
}

func (p *project) head() string {
	reference, err := p.repository.Head()
	if err != nil {
		return ""
	}
	return reference.Hash().String()
}

// file returns a file at a commit, by default the newest.
func (p *project) file(name, commitID string) ([]byte, error) {
	if commitID == "" {
		return os.ReadFile(filepath.Join(p.directory, name)) //nolint:gosec // checked by the caller
	}
	key := [2]string{commitID, name}
	if content, ok := p.known[key]; ok {
		return content, nil
	}
	if !plumbing.IsHash(commitID) {
		return nil, fmt.Errorf("%q is no commit", commitID)
	}
	commit, err := p.repository.CommitObject(plumbing.NewHash(commitID))
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commitID, err)
	}
	found, err := commit.File(name)
	if errors.Is(err, object.ErrFileNotFound) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	content, err := found.Contents()
	if err == nil {
		p.known[key] = []byte(content)
	}
	return []byte(content), err
}

// unescapedOnce unescapes paths like Keptn's gateway (recording 63-resources).
func unescapedOnce(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		unescaped, err := url.PathUnescape(request.URL.EscapedPath())
		if err != nil {
			refuse(writer, http.StatusBadRequest, err.Error())
			return
		}
		request.URL.RawPath = unescaped
		request.URL.Path, _ = url.PathUnescape(unescaped)
		next.ServeHTTP(writer, request)
	})
}

// resources is resource-service: the files of a project, stage or service. It matches escaped paths, so a
// file's path is one segment.
func (s *Server) resources() http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		parts := strings.Split(strings.TrimPrefix(request.URL.EscapedPath(), "/v1/project/"), "/")
		var names []string
		for _, part := range parts {
			name, err := url.PathUnescape(part)
			if err != nil {
				refuse(writer, http.StatusBadRequest, err.Error())
				return
			}
			names = append(names, name)
		}
		directory, rest := ".", names[1:]
		if len(rest) > 2 && rest[0] == "stage" {
			directory, rest = path.Join(stagesDirectory, rest[1]), rest[2:]
		}
		if len(rest) > 2 && rest[0] == "service" {
			directory, rest = path.Join(directory, rest[1]), rest[2:]
		}
		if len(rest) == 0 || len(rest) > 2 || rest[0] != "resource" {
			plain(writer, http.StatusNotFound, "404 page not found")
			return
		}
		s.mutex.Lock()
		defer s.mutex.Unlock()
		project := s.projects[names[0]]
		switch {
		case project == nil:
			refuse(writer, http.StatusNotFound, "Could not find credentials for upstream repository")
		case !project.has(directory):
			kind := map[int]string{2: "Stage", 3: "Service"}[strings.Count(directory, "/")+1]
			refuse(writer, http.StatusNotFound, kind+" not found")
		case len(rest) == 2:
			project.getResource(writer, directory, rest[1], request.URL.Query().Get("gitCommitID"))
		case request.Method == http.MethodGet:
			project.listResources(writer, request, directory)
		default:
			project.putResources(writer, request, directory)
		}
	})
}

func (p *project) has(directory string) bool {
	_, err := os.Stat(filepath.Join(p.directory, directory))
	return err == nil
}

func (p *project) metadata() map[string]any {
	return map[string]any{"upstreamURL": "http://git.invalid/" + p.name + ".git", "version": p.head()}
}

func (p *project) getResource(writer http.ResponseWriter, directory, uri, commit string) {
	// The path is unescaped again as a query: + is a blank.
	name, err := url.QueryUnescape(uri)
	if err != nil || strings.Contains(name, "..") || strings.Contains(name, "~") {
		refuse(writer, http.StatusBadRequest, "invalid resource uri")
		return
	}
	content, err := p.file(path.Join(directory, name), commit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(writer, http.StatusNotFound, "Resource not found")
	case err != nil:
		refuse(writer, http.StatusInternalServerError, "Internal server error")
	default:
		answer(writer, http.StatusOK, map[string]any{
			"resourceURI": url.PathEscape(name), "resourceContent": base64.StdEncoding.EncodeToString(content), "metadata": p.metadata(),
		})
	}
}

func (p *project) listResources(writer http.ResponseWriter, request *http.Request, directory string) {
	root := filepath.Join(p.directory, directory)
	var uris []string
	_ = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		relative := strings.TrimPrefix(file, root)
		if err == nil && !entry.IsDir() && !strings.Contains(relative, ".git") {
			uris = append(uris, relative)
		}
		return nil
	})
	slices.Sort(uris)
	listed := []map[string]any{}
	for _, uri := range uris {
		listed = append(listed, map[string]any{"resourceURI": uri, "metadata": p.metadata()})
	}
	page, next, total := paginate(listed, request.URL.Query())
	answer(writer, http.StatusOK, map[string]any{"resources": page, "nextPageKey": next, "totalCount": total})
}

func (p *project) putResources(writer http.ResponseWriter, request *http.Request, directory string) {
	var body struct {
		Resources []struct {
			ResourceURI     string `json:"resourceURI"`
			ResourceContent string `json:"resourceContent"`
		} `json:"resources"`
	}
	if !decode(writer, request, &body) {
		return
	}
	files := map[string][]byte{}
	for _, resource := range body.Resources {
		content, err := base64.StdEncoding.DecodeString(resource.ResourceContent)
		if err != nil {
			refuse(writer, http.StatusBadRequest, err.Error())
			return
		}
		files[resource.ResourceURI] = content
	}
	commit, err := p.write(directory, files)
	if err != nil {
		refuse(writer, http.StatusInternalServerError, err.Error())
		return
	}
	status := http.StatusOK
	if request.Method == http.MethodPost {
		status = http.StatusCreated
	}
	answer(writer, status, map[string]any{"commitID": commit, "metadata": p.metadata()})
}

// defaultPage is Keptn's default size of a page.
const defaultPage = 20

// paginate pages like resource-service: the key is an offset, and "0" is the end.
func paginate[Item any](items []Item, query url.Values) (page []Item, next string, total int) {
	size, err := strconv.Atoi(query.Get("pageSize"))
	if err != nil || size <= 0 {
		size = defaultPage
	}
	offset, _ := strconv.Atoi(query.Get("nextPageKey"))
	offset = min(max(offset, 0), len(items))
	end := min(offset+size, len(items))
	next = "0"
	if end < len(items) {
		next = strconv.Itoa(end)
	}
	return items[offset:end], next, len(items)
}
