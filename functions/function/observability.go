package function

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// observabilityDirectory is where the ConfigMap config-observability is mounted.
const observabilityDirectory = "/etc/config-observability"

// observability is what Knative's components read from their ConfigMap of the same name
// (knative.dev/pkg/observability, which is not used itself: it brings gRPC and Prometheus,
// too much for a function that starts from zero). Empty endpoints are none.
type observability struct {
	tracesEndpoint  string
	samplingRate    float64
	metricsEndpoint string
	metricsInterval time.Duration
}

// readObservability reads the ConfigMap's keys, each from a file of its name; what is not
// there has Knative's default, which is none. Its error names the key that is wrong.
func readObservability(directory string) (observability, error) {
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
	endpoint := func(signal string) string {
		key := signal + "-protocol"
		switch protocol := read(key); protocol {
		case "", "none":
			return ""
		case "http/protobuf":
		default:
			wrong(key, protocol, "none or http/protobuf")
			return ""
		}
		address := read(signal + "-endpoint")
		if address == "" {
			wrong(signal+"-endpoint", address, "an address, as http://collector:4318/v1/"+signal)
		}
		return address
	}
	made := observability{tracesEndpoint: endpoint("tracing"), metricsEndpoint: endpoint("metrics")}
	if rate := read("tracing-sampling-rate"); rate != "" {
		var err error
		if made.samplingRate, err = strconv.ParseFloat(rate, 64); err != nil || made.samplingRate < 0 || made.samplingRate > 1 {
			wrong("tracing-sampling-rate", rate, "from 0 to 1")
		}
	}
	if interval := read("metrics-export-interval"); interval != "" {
		var err error
		if made.metricsInterval, err = time.ParseDuration(interval); err != nil || made.metricsInterval <= 0 {
			wrong("metrics-export-interval", interval, "a duration, as 30s")
		}
	}
	if made.samplingRate == 0 {
		made.tracesEndpoint = "" // as Knative has it
	}
	return made, errors.Join(failures...)
}
