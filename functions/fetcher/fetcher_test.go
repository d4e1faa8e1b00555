package fetcher

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/files"
)

// bridge serves files to who has the grant; the first requests it answers with
// the given statuses.
func bridge(t *testing.T, files map[string]string, statuses ...int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if len(statuses) > 0 {
			status := statuses[0]
			statuses = statuses[1:]
			http.Error(writer, "a fault", status)
			return
		}
		query := request.URL.Query()
		switch content, ok := files[query.Get("path")]; {
		case request.Header.Get("Authorization") != "Bearer the grant" || query.Get("level") != "service":
			http.Error(writer, "a grant is needed", http.StatusUnauthorized)
		case ok:
			_, _ = writer.Write([]byte(content))
		case query.Has("path"):
			http.Error(writer, "no such file", http.StatusNotFound)
		default:
			paths := []string{}
			for path := range files {
				paths = append(paths, path)
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

func TestRun(t *testing.T) {
	repository := map[string]string{"locust/basic.py": "1", "locust/deep/er.py": "2", "locusts.txt": "3", "other": "4", "later/old": "5"}
	tests := []struct {
		name  string
		files []string
		fault []int
		want  map[string]string
		err   string
	}{
		{name: "files", files: []string{"locust/basic.py", "/other"}, want: map[string]string{"locust/basic.py": "1", "other": "4"}},
		{
			name:  "a directory with all below it",
			files: []string{"locust"},
			want:  map[string]string{"locust/basic.py": "1", "locust/deep/er.py": "2"},
		},
		{name: "everything", files: []string{"/"}, want: repository},
		{
			name:  "what was added to a directory since the event's commit is left out",
			files: []string{"later"},
			want:  map[string]string{"later/old": "5"},
		},
		{
			name:  "what is not there is named",
			files: []string{"other", "nowhere"},
			want:  map[string]string{"other": "4"},
			err:   "could not find file or directory nowhere in the files of the service",
		},
		{name: "it tries again while the bridge is not there", files: []string{"other"}, fault: []int{503}, want: map[string]string{"other": "4"}},
		{
			name:  "it does not try again without a right",
			files: []string{"other"},
			fault: []int{401},
			want:  map[string]string{},
			err:   "fetching other: the bridge answered 401: a fault",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := t.TempDir()
			fetcher := &Fetcher{
				Configuration: Configuration{Files: test.files, Target: target, Grant: "the grant", Timeout: time.Minute},
				Gateway:       files.Client{URL: bridge(t, repository, test.fault...), HTTP: http.DefaultClient}, Log: slog.New(slog.DiscardHandler),
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
		Gateway: files.Client{
			URL:  bridge(t, map[string]string{"large": strings.Repeat("x", files.MaxFileBytes+1)}),
			HTTP: http.DefaultClient,
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if err := fetcher.Run(t.Context()); err == nil || err.Error() != "fetching large: it has more than 67108864 bytes" {
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
		Gateway:       files.Client{URL: bridge(t, map[string]string{"../escaped": "x"}), HTTP: http.DefaultClient}, Log: slog.New(slog.DiscardHandler),
	}
	if err := fetcher.Run(t.Context()); err == nil {
		t.Error("it wrote outside")
	}
	if difference := cmp.Diff(map[string]string{}, written(t, parent)); difference != "" {
		t.Errorf("files (-want +got):\n%s", difference)
	}
}
