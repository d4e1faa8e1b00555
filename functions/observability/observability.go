package observability

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Directory is where the ConfigMap is mounted.
const Directory = "/etc/config-observability"

// Settings are what Knative's components read from their ConfigMap of the same name
// (knative.dev/pkg/observability, which is not used itself: it brings gRPC and Prometheus,
// too much for a function that starts from zero). Empty endpoints are none.
type Settings struct {
	TracesEndpoint string
	// SamplingRate is the part of traces that is kept, from 0 to 1.
	SamplingRate    float64
	MetricsEndpoint string
	// MetricsInterval is the time between two exports; 0 is OpenTelemetry's own.
	MetricsInterval time.Duration
}

// Read reads the ConfigMap's keys, each from a file of its name; what is not
// there has Knative's default, which is none. Its error names the key that is wrong.
func Read(directory string) (Settings, error) {
	var failures []error
	read := func(key string) string {
		content, err := os.ReadFile(filepath.Join(directory, key)) //nolint:gosec // of a fixed directory
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, fmt.Errorf("config-observability: %w", err))
		}
		return strings.TrimSpace(string(content))
	}
	wrong := func(key, value, allowed string) {
		failures = append(failures, fmt.Errorf("config-observability: %s %q must be %s", key, value, allowed))
	}
	endpoint := func(signal string, none ...string) string {
		key := signal + "-protocol"
		if protocol := read(key); protocol != "http/protobuf" {
			if none = append(none, "none"); protocol != "" && !slices.Contains(none, protocol) {
				wrong(key, protocol, strings.Join(none, ", ")+" or http/protobuf")
			}
			return ""
		}
		address := read(signal + "-endpoint")
		if address == "" {
			wrong(signal+"-endpoint", address, "an address, as http://collector:4318/v1/"+signal)
		}
		return address
	}
	// Prometheus comes for the metrics by itself, as Knative has it, too.
	made := Settings{TracesEndpoint: endpoint("tracing"), MetricsEndpoint: endpoint("metrics", "prometheus")}
	if rate := read("tracing-sampling-rate"); rate != "" {
		var err error
		if made.SamplingRate, err = strconv.ParseFloat(rate, 64); err != nil || made.SamplingRate < 0 || made.SamplingRate > 1 {
			wrong("tracing-sampling-rate", rate, "from 0 to 1")
		}
	}
	if interval := read("metrics-export-interval"); interval != "" {
		var err error
		if made.MetricsInterval, err = time.ParseDuration(interval); err != nil || made.MetricsInterval <= 0 {
			wrong("metrics-export-interval", interval, "a duration, as 30s")
		}
	}
	if made.SamplingRate == 0 {
		made.TracesEndpoint = "" // as Knative has it
	}
	return made, errors.Join(failures...)
}
