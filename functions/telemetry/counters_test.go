package telemetry

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// countAll calls each method once.
func countAll(ctx context.Context, counters *Counters) {
	counters.Received(ctx, "a", time.Now(), "")
	counters.Sent(ctx, "a", "retriable")
	counters.Retried(ctx, "a")
	counters.DeadLettered(ctx, "a")
	counters.Unproven(ctx)
	counters.Expect(ctx, "b")
}

func TestCountersCountByType(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	counters, err := NewCounters(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	countAll(t.Context(), counters)
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, found := range collected.ScopeMetrics[0].Metrics {
		switch data := found.Data.(type) {
		case metricdata.Sum[int64]:
			for _, point := range data.DataPoints {
				got[found.Name+" "+labels(point.Attributes.MarshalLog())] = fmt.Sprint(point.Value)
			}
		case metricdata.Histogram[float64]:
			for _, point := range data.DataPoints {
				got[found.Name+" "+labels(point.Attributes.MarshalLog())] = fmt.Sprint(point.Count)
			}
		}
	}
	want := map[string]string{
		"messaging.client.consumed.messages a": "1", "messaging.process.duration a": "1", "messaging.client.sent.messages a retriable": "1",
		"job_executor.events.retried a": "1", "job_executor.events.retried b": "0",
		"job_executor.events.dead_lettered a": "1", "job_executor.events.dead_lettered b": "0",
		// The type of an unproven event is its sender's choice.
		"job_executor.events.unproven ": "1",
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// labels returns the type and the error type of a point.
func labels(of any) string {
	attributes := of.(map[string]string)
	if attributes["messaging.system"] != "cloudevents" {
		return "without its system"
	}
	if failure := attributes["error.type"]; failure != "" {
		return attributes["cloudevents.event_type"] + " " + failure
	}
	return attributes["cloudevents.event_type"]
}

func TestNoCountersCountNothing(t *testing.T) {
	countAll(t.Context(), nil)
}
