package observability

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestObservabilityIsReadAsKnativeHasIt(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  Settings
		err   string
	}{
		{name: "nothing is there"},
		{
			name: "all of it",
			files: map[string]string{
				"tracing-protocol": "http/protobuf\n", "tracing-endpoint": "http://collector:4318/v1/traces", "tracing-sampling-rate": "0.5",
				"metrics-protocol": "http/protobuf", "metrics-endpoint": "http://collector:4318/v1/metrics", "metrics-export-interval": "30s",
			},
			want: Settings{"http://collector:4318/v1/traces", 0.5, "http://collector:4318/v1/metrics", 30 * time.Second},
		},
		{
			name: "Prometheus comes for metrics itself",
			files: map[string]string{
				"metrics-protocol": "prometheus", "tracing-protocol": "http/protobuf", "tracing-endpoint": "http://collector:4318/v1/traces", "tracing-sampling-rate": "1",
			},
			want: Settings{TracesEndpoint: "http://collector:4318/v1/traces", SamplingRate: 1},
		},
		{name: "no rate is none", files: map[string]string{"tracing-protocol": "http/protobuf", "tracing-endpoint": "http://collector:4318/v1/traces"}},
		{name: "it is off", files: map[string]string{"tracing-protocol": "none", "tracing-sampling-rate": "1"}, want: Settings{SamplingRate: 1}},
		{name: "a rate of none", files: map[string]string{"tracing-sampling-rate": "0"}},
		{
			name: "a rate below none", files: map[string]string{"tracing-sampling-rate": "-0.1"},
			err: "config-observability: tracing-sampling-rate \"-0.1\" must be from 0 to 1",
		},
		{
			name: "no interval at all", files: map[string]string{"metrics-export-interval": "0s"},
			err: "config-observability: metrics-export-interval \"0s\" must be a duration, as 30s",
		},
		{
			name: "what is wrong is named",
			files: map[string]string{
				"tracing-protocol":        "grpc",
				"tracing-sampling-rate":   "2",
				"metrics-protocol":        "http/protobuf",
				"metrics-export-interval": "x",
			},
			err: "config-observability: tracing-protocol \"grpc\" must be none or http/protobuf\n" +
				"config-observability: metrics-endpoint \"\" must be an address, as http://collector:4318/v1/metrics\n" +
				"config-observability: tracing-sampling-rate \"2\" must be from 0 to 1\n" +
				"config-observability: metrics-export-interval \"x\" must be a duration, as 30s",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			for name, content := range test.files {
				if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Read(directory)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err {
				t.Errorf("got %s\nwant %s", message, test.err)
			}
			if err == nil && !cmp.Equal(test.want, got) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
