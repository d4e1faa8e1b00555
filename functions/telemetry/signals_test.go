package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

func TestSpansAreExportedOnlyToAnEndpoint(t *testing.T) {
	for variable, want := range map[string]int{
		"": 0, "OTEL_EXPORTER_OTLP_ENDPOINT": 1, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": 1, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": 0,
	} {
		t.Run("with "+variable, func(t *testing.T) {
			if variable != "" {
				t.Setenv(variable, "http://127.0.0.1:1/")
			}
			processors, err := ExportFromEnvironment(t.Context())
			if err != nil || len(processors) != want {
				t.Errorf("got %d processors, %v", len(processors), err)
			}
			for _, processor := range processors {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_ = processor.Shutdown(ctx)
				cancel()
			}
		})
	}
}

func TestNothingIsMeasuredForAReaderThatFails(t *testing.T) {
	signals := To("bridge", slog.DiscardHandler)
	failure := errors.New("the port is in use")
	err := signals.Measure("bridge", []ReaderFunc{func() (sdkmetric.Reader, error) { return nil, failure }})
	if !errors.Is(err, failure) || signals.Events != nil {
		t.Errorf("got %v and counters %v", err, signals.Events)
	}
}
