package fetcher

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/files"
)

// bridge serves files to holders of the grant. Its first responses have the given statuses.
func bridge(t *testing.T, repository map[string]string, statuses ...int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if len(statuses) > 0 {
			status := statuses[0]
			statuses = statuses[1:]
			http.Error(writer, "a fault", status)
			return
		}
		level, path := request.URL.Query().Get("level"), request.URL.Query().Get("path")
		prefix := map[string]string{"service": "", "stage": "stage:", "project": "project:"}[level]
		switch content, ok := repository[prefix+path]; {
		case request.Header.Get("Authorization") != "Bearer the pod's token" || request.Header.Get(files.GrantHeader) != "the grant":
			http.Error(writer, "a grant is needed", http.StatusUnauthorized)
		case ok:
			_, _ = writer.Write([]byte(content))
		case path != "":
			http.Error(writer, "no such file", http.StatusNotFound)
		default: // as the bridge does, also for a path that is empty
			paths := []string{}
			for path := range repository {
				if inLevel, ok := strings.CutPrefix(path, prefix); ok && !strings.Contains(inLevel, ":") {
					paths = append(paths, inLevel)
				}
			}
			paths = append(paths, "later/new") // it is listed, and not there
			_ = json.NewEncoder(writer).Encode(paths)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func written(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		relative, _ := filepath.Rel(root, path)
		found[relative] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// gateway is the client of a bridge, with a token.
func gateway(t *testing.T, url string) files.Client {
	t.Helper()
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("the pod's token"), 0o600); err != nil {
		t.Fatal(err)
	}
	return files.Client{URL: url, TokenFile: tokenFile, HTTP: http.DefaultClient}
}

func TestRun(t *testing.T) {
	service := map[string]string{"locust/basic.py": "1", "locust/deep/er.py": "2", "locusts.txt": "3", "other": "4", "later/old": "5"}
	repository := maps.Clone(service)
	maps.Copy(repository, map[string]string{"stage:other": "6", "stage:scripts/a": "7", "project:scripts/b": "8", "project:all": "9"})
	tests := []struct {
		name  string
		files []string
		fault []int
		want  map[string]string
		err   string
	}{
		{name: "files", files: []string{"locust/basic.py", "/other"}, want: map[string]string{"locust/basic.py": "1", "other": "4"}},
		{
			name:  "a directory with its content",
			files: []string{"locust"},
			want:  map[string]string{"locust/basic.py": "1", "locust/deep/er.py": "2"},
		},
		{name: "a directory with a trailing slash", files: []string{"locust/deep/"}, want: map[string]string{"locust/deep/er.py": "2"}},
		{name: "everything", files: []string{"/"}, want: service},
		{name: "an empty name means everything", files: []string{""}, want: service},
		{name: "a file of the stage", files: []string{"scripts"}, want: map[string]string{"scripts/a": "7"}},
		{name: "a file of the project", files: []string{"all"}, want: map[string]string{"all": "9"}},
		{
			name:  "a file added after the event's commit is skipped",
			files: []string{"later"},
			want:  map[string]string{"later/old": "5"},
		},
		{
			name:  "a missing file is named",
			files: []string{"other", "nowhere"},
			want:  map[string]string{"other": "4"},
			err:   "could not find file or directory nowhere in the files of the service, the stage or the project",
		},
		{name: "retries while the bridge is unreachable", files: []string{"other"}, fault: []int{503}, want: map[string]string{"other": "4"}},
		{
			name:  "no retry after a refusal",
			files: []string{"other"},
			fault: []int{401},
			want:  map[string]string{},
			err:   "fetch other: the bridge answered 401: a fault",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := t.TempDir()
			fetcher := &Fetcher{
				Configuration: Configuration{Files: test.files, Target: target, Grant: "the grant", Timeout: time.Minute},
				Gateway:       gateway(t, bridge(t, repository, test.fault...)), Log: slog.New(slog.DiscardHandler),
			}
			message := ""
			if err := fetcher.Run(t.Context()); err != nil {
				message = err.Error()
			}
			if message != test.err {
				t.Errorf("got error %q, want %q", message, test.err)
			}
			if difference := cmp.Diff(test.want, written(t, target)); difference != "" {
				t.Errorf("files (-want +got):\n%s", difference)
			}
		})
	}
}

func TestAFileThatIsTooLargeIsNotWritten(t *testing.T) {
	target := t.TempDir()
	fetcher := &Fetcher{
		Configuration: Configuration{Files: []string{"large"}, Target: target, Grant: "the grant", Timeout: time.Minute},
		Gateway:       gateway(t, bridge(t, map[string]string{"large": strings.Repeat("x", files.MaxFileBytes+1)})),
		Log:           slog.New(slog.DiscardHandler),
	}
	if err := fetcher.Run(t.Context()); err == nil || err.Error() != "fetch large: it has more than 67108864 bytes" {
		t.Errorf("got %v", err)
	}
	if difference := cmp.Diff(map[string]string{}, written(t, target)); difference != "" {
		t.Errorf("files (-want +got):\n%s", difference)
	}
}

func TestNothingIsWrittenOutsideOfTheTarget(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "keptn")
	fetcher := &Fetcher{
		Configuration: Configuration{Files: []string{"../escaped"}, Target: target, Grant: "the grant", Timeout: time.Minute},
		Gateway:       gateway(t, bridge(t, map[string]string{"../escaped": "x"})), Log: slog.New(slog.DiscardHandler),
	}
	if err := fetcher.Run(t.Context()); err == nil {
		t.Error("it wrote outside")
	}
	if difference := cmp.Diff(map[string]string{}, written(t, parent)); difference != "" {
		t.Errorf("files (-want +got):\n%s", difference)
	}
}

// The task's container may run as another user, who must be able to change the files and add others.
func TestFilesAreTheGroupsToChange(t *testing.T) {
	before := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(before) })
	target := t.TempDir()
	fetcher := &Fetcher{
		Configuration: Configuration{Files: []string{"a"}, Target: target, Grant: "the grant", Timeout: time.Minute},
		Gateway:       gateway(t, bridge(t, map[string]string{"a/b/c": "x"})), Log: slog.New(slog.DiscardHandler),
	}
	if err := fetcher.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]fs.FileMode{}
	for _, name := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Stat(filepath.Join(target, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Mode().Perm()
	}
	if difference := cmp.Diff(map[string]fs.FileMode{"a": 0o775, "a/b": 0o775, "a/b/c": 0o664}, got); difference != "" {
		t.Errorf("modes (-want +got):\n%s", difference)
	}
}
