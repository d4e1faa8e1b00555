package loadtest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestRunReadsLocustsConfiguration(t *testing.T) {
	config := filepath.Join(t.TempDir(), "locust.conf")
	if err := os.WriteFile(config, []byte("headless = true\nusers = 2\nrun-time = 300ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		status    int
		arguments []string
		code      int
		output    string
	}{
		{"it passes", http.StatusOK, []string{"locust", "--config", config, "-f", "basic.py"}, 0, `(?s)2 users, 300ms.*GET +/ +[1-9]\d* +0 `},
		{"it fails if a request does", http.StatusTeapot, []string{"locust", "--config", config}, 1, `GET +/ +[1-9]\d* +[1-9]`},
		{"a wrong number is named", http.StatusOK, []string{"locust", "--users", "many"}, 1, `users = many: use 1 to 100`},
		{"a missing file is named", http.StatusOK, []string{"locust", "--config", "/nowhere"}, 1, `/nowhere`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(test.status) }))
			defer server.Close()
			var output bytes.Buffer
			code := Run(t.Context(), append(test.arguments, "--host", server.URL), &output)
			if code != test.code || !regexp.MustCompile(test.output).Match(output.Bytes()) {
				t.Errorf("got %d and\n%s", code, output.String())
			}
		})
	}
}
