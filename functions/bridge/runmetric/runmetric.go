package runmetric

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Recorder measures runs (OpenTelemetry semantic conventions, CICD; other names start with job_executor). Its
// attributes are the pipeline, where the conventions require it, the task's name, and others with few values.
// Services would be too many: the traces of exemplars have them.
type Recorder struct {
	events          *telemetry.Counters
	now             func() time.Time
	meter           metric.Meter
	run, start, end metric.Float64Histogram
	job             metric.Float64Histogram
	errors, dropped metric.Int64Counter

	waiting waiting
}

// minutes returns histogram boundaries for tasks and Jobs.
func minutes() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
}

// New returns a recorder that counts sent events with events. It returns an error if a name is invalid.
func New(meters metric.MeterProvider, events *telemetry.Counters, now func() time.Time) (*Recorder, error) {
	meter := meters.Meter("bridge")
	var failures []error
	histogram := func(name, description string, boundaries metric.HistogramOption) metric.Float64Histogram {
		created, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), boundaries)
		failures = append(failures, err)
		return created
	}
	counter := func(name, unit, description string) metric.Int64Counter {
		created, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		failures = append(failures, err)
		return created
	}
	recorder := &Recorder{
		events: events, now: now, meter: meter,
		run:     histogram("cicd.pipeline.run.duration", "Time from a task's triggered event until Keptn no longer waits for it.", minutes()),
		start:   histogram("job_executor.task.start.duration", "Time from a task's triggered event until Keptn accepted its started event.", telemetry.Seconds()),
		end:     histogram("job_executor.task.finish.duration", "Time from the end of a task's last Job until Keptn accepted its finished event.", telemetry.Seconds()),
		job:     histogram("job_executor.job.duration", "Time that a Job spent in each phase, in all attempts: queued, pending, fetch files, starting, run, back-off and finalizing.", minutes()),
		errors:  counter("cicd.pipeline.run.errors", "{error}", "Tasks that failed."),
		dropped: counter("keptn.events.dropped", "{event}", "Started and finished events that were not sent because Keptn has them or no longer waits for them."),
	}
	return recorder, errors.Join(append(failures, recorder.observe())...)
}

// observe registers the gauges of waiting events.
func (r *Recorder) observe() error {
	undelivered, undeliveredErr := r.meter.Float64ObservableGauge("job_executor.event.undelivered.age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest listed triggered event that this installation has not started."))
	listing, listingErr := r.meter.Float64ObservableGauge("job_executor.keptn.listing.age", metric.WithUnit("s"),
		metric.WithDescription("Longest time since open events of a type could be listed."))
	_, err := r.meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		now := r.now()
		age := func(since time.Time) float64 {
			if since.IsZero() {
				return 0
			}
			return max(now.Sub(since).Seconds(), 0)
		}
		oldest, listed, isListing := r.waiting.oldest()
		if isListing { // only the elected bridge lists
			observer.ObserveFloat64(undelivered, age(oldest))
			observer.ObserveFloat64(listing, age(listed))
		}
		return nil
	}, undelivered, listing)
	return errors.Join(undeliveredErr, listingErr, err)
}

// Active registers a gauge of active runs by kind. A kind that once had runs stays in the metric with 0. It
// returns an error if the name is invalid.
func (r *Recorder) Active(count func() map[keptn.Kind]int) error {
	var mutex sync.Mutex
	known := map[keptn.Kind]bool{}
	_, err := r.meter.Int64ObservableUpDownCounter("cicd.pipeline.run.active", metric.WithUnit("{run}"),
		metric.WithDescription("Tasks that were started and have not finished."),
		metric.WithInt64Callback(func(_ context.Context, observer metric.Int64Observer) error {
			counted := count()
			mutex.Lock()
			defer mutex.Unlock()
			for kind := range counted {
				if len(known) < maxKinds {
					known[kind] = true
				}
			}
			for kind := range known {
				observer.Observe(int64(counted[kind]), metric.WithAttributes(append(ofKind(kind), executing())...))
			}
			return nil
		}))
	return err
}

// maxKinds bounds the number of kinds in that metric.
const maxKinds = 500

func ofTask(name string) attribute.KeyValue { return semconv.CICDPipelineTaskName(name) }

func ofKind(kind keptn.Kind) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.CICDPipelineName(kind.Pipeline), ofTask(kind.Task)}
}

func failedAs(result keptn.RunResult) attribute.KeyValue {
	return semconv.ErrorTypeKey.String(string(result))
}

func executing() attribute.KeyValue { return semconv.CICDPipelineRunStateExecuting }

// Ended measures an ended run. Call it once per run.
func (r *Recorder) Ended(ctx context.Context, task keptn.Task, result keptn.RunResult) {
	if task.Observed {
		return
	}
	r.waiting.end(task)
	attributes := append(ofKind(task.Kind()), executing())
	if result != "" {
		attributes = append(attributes, semconv.CICDPipelineResultKey.String(string(result)))
	}
	if result.IsFailed() {
		attributes = append(attributes, failedAs(result))
		r.errors.Add(ctx, 1, metric.WithAttributes(append(ofKind(task.Kind()), failedAs(result))...))
	}
	if !task.TriggeredAt.IsZero() {
		r.run.Record(ctx, seconds(task.TriggeredAt, r.now()), metric.WithAttributes(attributes...))
	}
}

// Sent measures an attempt to send the event of an answer to Keptn.
func (r *Recorder) Sent(ctx context.Context, answer protocol.Answer, isResend bool, err error) {
	eventType := answer.EventType()
	r.events.Sent(ctx, eventType, function.ErrorType(err))
	if isResend {
		r.events.Retried(ctx, eventType)
	}
	if err != nil {
		return
	}
	r.waiting.remove(answer.Task)
	ctx = telemetry.WithRun(ctx, answer.Task)
	task := metric.WithAttributes(ofTask(answer.Task.Name))
	if answer.Phase == keptn.Started {
		// The increase of a counter is only visible if it starts at 0.
		for _, result := range keptn.FailedResults() {
			r.errors.Add(ctx, 0, metric.WithAttributes(append(ofKind(answer.Task.Kind()), failedAs(result))...))
		}
	}
	if answer.Phase == keptn.Started && !answer.Task.TriggeredAt.IsZero() {
		r.start.Record(ctx, seconds(answer.Task.TriggeredAt, r.now()), task)
	}
	if answer.Phase == keptn.Finished && !answer.EndedAt.IsZero() {
		r.end.Record(ctx, seconds(answer.EndedAt, r.now()), task)
	}
}

// Jobs measures the Jobs of a task whose run has ended.
func (r *Recorder) Jobs(ctx context.Context, task keptn.Task, jobs []protocol.Job) {
	ctx = telemetry.WithRun(ctx, task)
	for _, job := range jobs {
		total := map[string]time.Duration{} // of all attempts
		for _, phase := range job.Phases {
			total[phase.Name] += phase.Ended.Sub(phase.Began)
		}
		for phase, took := range total {
			r.job.Record(ctx, took.Seconds(), metric.WithAttributes(ofTask(task.Name), attribute.String("job_executor.job.phase", phase)))
		}
	}
}

// Republished counts a republished event.
func (r *Recorder) Republished(ctx context.Context, eventType string) {
	r.events.Retried(ctx, eventType)
}

// Dropped counts an answer that Keptn does not need.
func (r *Recorder) Dropped(ctx context.Context, phase keptn.Phase) {
	r.dropped.Add(ctx, 1, ofPhase(phase))
}

func ofPhase(phase keptn.Phase) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("keptn.event.phase", string(phase)))
}

// seconds returns a duration, 0 if clock skew makes it negative.
func seconds(from, to time.Time) float64 { return max(to.Sub(from).Seconds(), 0) }
