package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Files reads the configuration of a task.
type Files interface {
	// Configuration returns the job/config.yaml for the task of an event as the bridge has signed it. It
	// returns files.ErrNotFound if no level has one, and files.ErrOver if Keptn no longer waits for the task.
	Configuration(ctx context.Context, received event.Event) (File, error)
	// Grant returns a grant without the file.
	Grant(ctx context.Context, received event.Event) (files.Grant, error)
}

// File is a job/config.yaml.
type File struct {
	Content []byte
	// Level is the level of the file.
	Level files.Level
	// Grant permits reading the task's files.
	Grant files.Grant
}

// Jobs creates the Jobs of the cluster, as store.Jobs does.
type Jobs interface {
	List(ctx context.Context, runID string) ([]batchv1.Job, error)
	Create(ctx context.Context, job *batchv1.Job) (created *batchv1.Job, err error)
	Delete(ctx context.Context, job *batchv1.Job) error
}

// Executor turns a triggered event into the Jobs of a run.
type Executor struct {
	Files         Files
	Jobs          Jobs
	Cluster       plan.Cluster
	Configuration Configuration
	Tracer        trace.Tracer
	Now           func() time.Time
	Log           *slog.Logger
}

// Handle answers a triggered event: it reads job/config.yaml, decides what to run, and creates the Jobs. It
// replies with the task's started answer once all Jobs of the run exist, or with its finished answer if the
// configuration has a mistake. If all matching actions are silent, it replies with nothing; their mistakes, and
// that no action matches, become entries of Keptn's log. For an observed event all actions are silent, and none
// has to match. Another delivery of the event creates nothing and gets the same reply.
func (e *Executor) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	task, seen, err := keptn.ParseReceived(received)
	if err != nil {
		return nil, function.Permanent(err)
	}
	asked := e.Now()
	file, decided, err := e.read(ctx, task, received, seen)
	if err != nil {
		return nil, err
	}
	pinned := task.GitCommitID != "" && file.Level != files.ProjectLevel
	err = e.create(ctx, decided.jobs, received, begin{asked: asked, started: file.Grant.Started, pinned: pinned})
	if plan.IsMistake(err) {
		decided, err = e.mistake(task, err, decided.isSilent), nil
	}
	if err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if len(decided.jobs) > 0 { // create has logged the run
		level = slog.LevelDebug
	}
	e.Log.Log(ctx, level, decided.summary, "project", task.Project, "stage", task.Stage, "service", task.Service, "task", task.Name,
		"reason", decided.reason, "decision", decided)
	if decided.answer == nil {
		return nil, nil
	}
	return new(decided.answer.Event()), nil
}

// read reads the file and decides what to run, within a span. A mistake in the file fails the span.
func (e *Executor) read(ctx context.Context, task keptn.Task, received, seen event.Event) (File, decision, error) {
	reading, span := e.Tracer.Start(ctx, "read "+jobconfig.Path)
	defer span.End()
	file, err := e.Files.Configuration(reading, received)
	if err == nil {
		span.SetAttributes(
			attribute.String("job_executor.file.level", string(file.Level)), attribute.Int("job_executor.file.bytes", len(file.Content)),
			semconv.VCSRefHeadRevision(task.GitCommitID),
		)
	}
	if err != nil && !errors.Is(err, files.ErrNotFound) && !errors.Is(err, files.ErrOver) {
		return File{}, decision{}, fmt.Errorf("read %s: %w", jobconfig.Path, err)
	}
	decided, err := e.decide(ctx, task, seen, file, err)
	if decided.answer != nil && decided.answer.RunResult == keptn.RunError {
		telemetry.Fail(span, string(keptn.RunError), decided.reason)
	}
	return file, decided, err
}
