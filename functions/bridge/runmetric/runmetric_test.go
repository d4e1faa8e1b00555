package runmetric

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0/cicdconv"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

// recorded returns a recorder with a fixed clock, and a function that returns its series: value, or count and
// sum, and exemplars' traces.
func recorded(t *testing.T) (*Recorder, *time.Time, func() []string) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	events, err := telemetry.NewCounters(meters)
	if err != nil {
		t.Fatal(err)
	}
	now := fixture.Noon.Add(time.Minute)
	recorder, err := New(meters, events, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return recorder, &now, func() []string {
		var collected metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &collected); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, scope := range collected.ScopeMetrics {
			for _, measured := range scope.Metrics {
				lines = append(lines, seriesOf(measured)...)
			}
		}
		slices.Sort(lines)
		return lines
	}
}

func seriesOf(measured metricdata.Metrics) []string {
	var lines []string
	add := func(attributes attribute.Set, format string, values ...any) {
		var pairs []string
		for _, pair := range attributes.ToSlice() {
			if pair.Key != "messaging.system" {
				pairs = append(pairs, pair.Value.String())
			}
		}
		lines = append(lines, measured.Name+"{"+strings.Join(pairs, " ")+"} "+fmt.Sprintf(format, values...))
	}
	switch data := measured.Data.(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			add(point.Attributes, "%d", point.Value)
		}
	case metricdata.Gauge[float64]:
		for _, point := range data.DataPoints {
			add(point.Attributes, "%v", point.Value)
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			seen := ""
			for _, exemplar := range point.Exemplars {
				seen = fmt.Sprintf(" as in %x", exemplar.TraceID[:2])
			}
			add(point.Attributes, "%d, %v%s", point.Count, point.Sum, seen)
		}
	}
	return lines
}

func task(id string, triggeredAt time.Time) keptn.Task {
	created := fixture.Task
	created.TriggeredID, created.TriggeredAt = id, triggeredAt
	return created
}

func TestRunsAreMeasured(t *testing.T) {
	began := task("1", fixture.Noon)
	started := protocol.Answer{Task: began, Phase: keptn.Started}
	finished := protocol.Answer{Task: began, Phase: keptn.Finished, EndedAt: fixture.Noon.Add(58 * time.Second)}
	tests := []struct {
		name string
		what func(ctx context.Context, recorder *Recorder)
		want []string
	}{
		{
			name: "a success", what: func(ctx context.Context, recorder *Recorder) { recorder.Ended(ctx, began, keptn.RunSuccess) },
			want: []string{"cicd.pipeline.run.duration{p/s success executing test} 1, 60 as in 4ed5"},
		},
		{
			name: "a failure", what: func(ctx context.Context, recorder *Recorder) { recorder.Ended(ctx, began, keptn.RunTimeout) },
			want: []string{"cicd.pipeline.run.duration{p/s timeout executing test timeout} 1, 60 as in 4ed5", "cicd.pipeline.run.errors{p/s test timeout} 1"},
		},
		{
			name: "a cancellation is not an error", what: func(ctx context.Context, recorder *Recorder) { recorder.Ended(ctx, began, keptn.RunCancellation) },
			want: []string{"cicd.pipeline.run.duration{p/s cancellation executing test} 1, 60 as in 4ed5"},
		},
		{
			name: "an unknown trigger time", what: func(ctx context.Context, recorder *Recorder) {
				recorder.Ended(ctx, fixture.Task, keptn.RunError)
			},
			want: []string{"cicd.pipeline.run.errors{p/s test error} 1"},
		},
		{
			name: "a slow clock", what: func(ctx context.Context, recorder *Recorder) {
				recorder.Ended(ctx, task("2", fixture.Noon.Add(time.Hour)), keptn.RunSuccess)
			},
			want: []string{"cicd.pipeline.run.duration{p/s success executing test} 1, 0 as in 4ed5"},
		},
		{
			name: "an observed event is not a task", what: func(ctx context.Context, recorder *Recorder) {
				observed := began
				observed.Observed = true
				recorder.Ended(ctx, observed, keptn.RunSuccess)
			},
		},
		{
			name: "a started event", what: func(ctx context.Context, recorder *Recorder) { recorder.Sent(ctx, started, false, nil) },
			want: []string{
				"cicd.pipeline.run.errors{p/s test error} 0", "cicd.pipeline.run.errors{p/s test failure} 0", "cicd.pipeline.run.errors{p/s test timeout} 0",
				"job_executor.task.start.duration{test} 1, 60 as in 4ed5", "messaging.client.sent.messages{sh.keptn.event.test.started send} 1",
			},
		},
		{
			name: "a finished event, at the second attempt", what: func(ctx context.Context, recorder *Recorder) {
				recorder.Sent(ctx, finished, false, fixture.ErrDown)
				recorder.Sent(ctx, finished, true, nil)
			},
			want: []string{
				"job_executor.events.retried{sh.keptn.event.test.finished} 1",
				"job_executor.task.finish.duration{test} 1, 2 as in 4ed5",
				"messaging.client.sent.messages{sh.keptn.event.test.finished retriable send} 1",
				"messaging.client.sent.messages{sh.keptn.event.test.finished send} 1",
			},
		},
		{
			name: "a refused event", what: func(ctx context.Context, recorder *Recorder) {
				recorder.Sent(ctx, started, false, function.Permanent(errors.New("400")))
			},
			want: []string{"messaging.client.sent.messages{sh.keptn.event.test.started permanent send} 1"},
		},
		{
			name: "Jobs", what: func(ctx context.Context, recorder *Recorder) {
				phase := func(name string, seconds int) protocol.Phase {
					return protocol.Phase{Name: name, Began: fixture.Noon, Ended: fixture.Noon.Add(time.Duration(seconds) * time.Second)}
				}
				recorder.Jobs(ctx, began, []protocol.Job{
					{Phases: []protocol.Phase{phase("pending", 1), phase("run", 3)}}, {Phases: []protocol.Phase{phase("queued", 2), phase("run", 1), phase("run", 3)}},
				})
			},
			want: []string{
				"job_executor.job.duration{test pending} 1, 1 as in 4ed5", "job_executor.job.duration{test queued} 1, 2 as in 4ed5",
				"job_executor.job.duration{test run} 2, 7 as in 4ed5",
			},
		},
		{
			name: "a dropped and a republished event", what: func(ctx context.Context, recorder *Recorder) {
				recorder.Dropped(ctx, keptn.Started)
				recorder.Republished(ctx, "sh.keptn.event.test.triggered")
			},
			want: []string{"job_executor.events.retried{sh.keptn.event.test.triggered} 1", "keptn.events.dropped{started} 1"},
		},
		{
			name: "active runs", what: func(_ context.Context, recorder *Recorder) {
				if err := recorder.Active(func() map[keptn.Kind]int {
					return map[keptn.Kind]int{{Pipeline: "p/s", Task: "test"}: 2, {Pipeline: "p/s", Task: "deployment"}: 1}
				}); err != nil {
					panic(err)
				}
			},
			want: []string{"cicd.pipeline.run.active{p/s executing deployment} 1", "cicd.pipeline.run.active{p/s executing test} 2"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorder, _, measured := recorded(t)
			test.what(telemetry.WithRun(t.Context(), began), recorder)
			if difference := cmp.Diff(test.want, measured()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// A type that cannot be listed is visible in the metrics.
func TestAgeOfWhatWaits(t *testing.T) {
	const of, others = "sh.keptn.event.test.triggered", "sh.keptn.event.deployment.triggered"
	old, young := task("old", fixture.Noon), task("young", fixture.Noon.Add(50*time.Second))
	open := func(tasks ...keptn.Task) []event.Event {
		var events []event.Event
		for _, task := range tasks {
			events = append(events, fixture.Triggered(task))
		}
		return events
	}
	recorder, now, measured := recorded(t)
	want := func(what string, want ...string) {
		t.Helper()
		got := slices.DeleteFunc(measured(), func(series string) bool { return !strings.Contains(series, ".age{") })
		if difference := cmp.Diff(want, got, cmpopts.EquateEmpty()); difference != "" {
			t.Errorf("%s (-want +got):\n%s", what, difference)
		}
	}
	ages := func(waiting, listing int) []string {
		return []string{fmt.Sprintf("job_executor.event.undelivered.age{} %d", waiting), fmt.Sprintf("job_executor.keptn.listing.age{} %d", listing)}
	}
	want("a standby measures nothing")
	recorder.Waits(old, true)
	want("nor what it is told")
	recorder.Listing(t.Context(), of)
	want("at the beginning", ages(0, 0)...)
	*now = now.Add(10 * time.Second)
	want("Keptn does not answer", ages(0, 10)...)
	recorder.Listed(of, open(old, young))
	recorder.Waits(old, true)
	recorder.Waits(young, true)
	want("two wait", ages(70, 0)...)
	recorder.Waits(old, false)
	want("others have started the older one", ages(20, 0)...)
	recorder.Waits(old, true)
	recorder.Listing(t.Context(), others)
	*now = now.Add(5 * time.Second)
	recorder.Listed(of, open(old, young))
	want("the other type can't be listed", ages(75, 5)...)
	recorder.Unlisted(others)
	recorder.Listed(of, open(young))
	want("the older one is not open any more", ages(25, 0)...)
	recorder.Ended(t.Context(), young, keptn.RunCancellation)
	want("a run that is over does not wait", ages(0, 0)...)
	recorder.Listed(of, open(young))
	recorder.Waits(young, true)
	want("nor is it waited for when listed again, since others handle it", ages(0, 0)...)
	recorder.Listed(of, nil)
	recorder.Listed(of, open(young))
	recorder.Waits(young, true)
	want("Keptn has forgotten it meanwhile", ages(25, 0)...)
	recorder.Unlisted(of)
	want("nothing is listed")
	recorder.Waits(young, true)
	want("nor waits")
}

// The increase of a counter is only visible if it starts at 0.
func TestFailuresOfWhatIsListedBeginAtNone(t *testing.T) {
	recorder, _, measured := recorded(t)
	recorder.Listing(t.Context(), "sh.keptn.event.test.triggered")
	want := []string{
		"job_executor.event.undelivered.age{} 0",
		"job_executor.events.dead_lettered{sh.keptn.event.test.triggered} 0", "job_executor.events.retried{sh.keptn.event.test.triggered} 0",
		"job_executor.events.unproven{} 0", "job_executor.keptn.listing.age{} 0", "keptn.events.dropped{finished} 0", "keptn.events.dropped{started} 0",
	}
	if difference := cmp.Diff(want, measured()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// A series that ended with a task's last run would look active for a while.
func TestTaskThatNoLongerRunsIsMeasuredAsNone(t *testing.T) {
	recorder, _, measured := recorded(t)
	counts := map[keptn.Kind]int{{Pipeline: "p/s", Task: "test"}: 2}
	if err := recorder.Active(func() map[keptn.Kind]int { return counts }); err != nil {
		t.Fatal(err)
	}
	measured()
	counts = map[keptn.Kind]int{{Pipeline: "p/s", Task: "deployment"}: 1}
	want := []string{"cicd.pipeline.run.active{p/s executing deployment} 1", "cicd.pipeline.run.active{p/s executing test} 0"}
	if difference := cmp.Diff(want, measured()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestNoMoreThanSoManyTasksAreRemembered(t *testing.T) {
	recorder, _, measured := recorded(t)
	counts := map[keptn.Kind]int{}
	for index := range maxKinds + 1 {
		counts[keptn.Kind{Pipeline: "p/s", Task: fmt.Sprintf("task-%d", index)}] = 1
	}
	if err := recorder.Active(func() map[keptn.Kind]int { return counts }); err != nil {
		t.Fatal(err)
	}
	if got := len(measured()); got != maxKinds {
		t.Errorf("got %d series, want %d", got, maxKinds)
	}
}

func TestTimesThatAreNotKnownAreNotMeasured(t *testing.T) {
	recorder, _, measured := recorded(t)
	for _, phase := range []keptn.Phase{keptn.Started, keptn.Finished} {
		recorder.Sent(t.Context(), protocol.Answer{Task: task("1", time.Time{}), Phase: phase}, false, nil)
	}
	for _, series := range measured() {
		if strings.HasPrefix(series, "job_executor.") {
			t.Errorf("got %s", series)
		}
	}
}

// The metrics that OpenTelemetry defines have its names, units and required attributes.
func TestMetricsFollowTheConventions(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	events, err := telemetry.NewCounters(meters)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := New(meters, events, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, of := t.Context(), task("1", fixture.Noon)
	if err := recorder.Active(func() map[keptn.Kind]int { return map[keptn.Kind]int{of.Kind(): 1} }); err != nil {
		t.Fatal(err)
	}
	recorder.Ended(ctx, of, keptn.RunFailure)
	recorder.Sent(ctx, protocol.Answer{Task: of, Phase: keptn.Started}, false, nil)
	events.Received(ctx, "test", fixture.Noon, "")
	var measured metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &measured); err != nil {
		t.Fatal(err)
	}
	type convention interface{ Unit() string }
	conventions := map[string]struct {
		convention

		required []attribute.Key
	}{
		cicdconv.PipelineRunDuration{}.Name():         {cicdconv.PipelineRunDuration{}, []attribute.Key{"cicd.pipeline.name", "cicd.pipeline.run.state"}},
		cicdconv.PipelineRunActive{}.Name():           {cicdconv.PipelineRunActive{}, []attribute.Key{"cicd.pipeline.name", "cicd.pipeline.run.state"}},
		cicdconv.PipelineRunErrors{}.Name():           {cicdconv.PipelineRunErrors{}, []attribute.Key{"cicd.pipeline.name", "error.type"}},
		messagingconv.ClientSentMessages{}.Name():     {messagingconv.ClientSentMessages{}, []attribute.Key{"messaging.operation.name", "messaging.system"}},
		messagingconv.ClientConsumedMessages{}.Name(): {messagingconv.ClientConsumedMessages{}, []attribute.Key{"messaging.operation.name", "messaging.system"}},
		messagingconv.ProcessDuration{}.Name():        {messagingconv.ProcessDuration{}, []attribute.Key{"messaging.operation.name", "messaging.system"}},
	}
	for _, scope := range measured.ScopeMetrics {
		for _, metric := range scope.Metrics {
			of, ok := conventions[metric.Name]
			if !ok {
				if !strings.HasPrefix(metric.Name, "job_executor.") {
					t.Errorf("%s is in no registry", metric.Name)
				}
				continue
			}
			delete(conventions, metric.Name)
			if metric.Unit != of.Unit() {
				t.Errorf("%s is in %s, not %s", metric.Name, metric.Unit, of.Unit())
			}
			for _, attributes := range attributesOf(metric) {
				for _, key := range of.required {
					if !attributes.HasValue(key) {
						t.Errorf("%s lacks %s", metric.Name, key)
					}
				}
			}
		}
	}
	if len(conventions) > 0 {
		t.Errorf("not measured: %v", conventions)
	}
}

// attributesOf returns the attributes of each series of a metric.
func attributesOf(measured metricdata.Metrics) (sets []attribute.Set) {
	switch data := measured.Data.(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			sets = append(sets, point.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			sets = append(sets, point.Attributes)
		}
	}
	return sets
}
