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
		{
			name:      "it passes",
			status:    http.StatusOK,
			arguments: []string{"locust", "--config", config, "-f", "basic.py"},
			output:    `(?s)2 users, 300ms.*GET +/ +[1-9]\d* +0 `,
		},
		{
			name:      "it fails if a request does",
			status:    http.StatusTeapot,
			arguments: []string{"locust", "--config", config},
			code:      1,
			output:    `GET +/ +[1-9]\d* +[1-9]`,
		},
		{
			name:      "a wrong number is named",
			status:    http.StatusOK,
			arguments: []string{"locust", "--users", "many"},
			code:      1,
			output:    `users = many: use 1 to 100`,
		},
		{name: "a missing file is named", status: http.StatusOK, arguments: []string{"locust", "--config", "/nowhere"}, code: 1, output: `/nowhere`},
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
