package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
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

// Jobs creates the Jobs of the cluster, as run.Store does.
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

// Handle answers a triggered event. It replies with the task's started answer once all Jobs of the run exist,
// or with its finished answer if the configuration has a mistake. If all matching actions are silent, it
// replies with nothing; their mistakes, and that no action matches, become entries of Keptn's log. For an
// observed event all actions are silent, and none has to match. Another delivery of the event creates nothing
// and gets the same reply.
func (e *Executor) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	task, seen, err := keptn.ParseReceived(received)
	if err != nil {
		return nil, function.Permanent(err)
	}
	reply, err := e.execute(ctx, task, received, seen)
	if plan.IsMistake(err) {
		e.Log.InfoContext(ctx, "task cannot run", "project", task.Project, "error", err)
		if task.Observed {
			return new(protocol.Log(task, e.Now(), err.Error(), keptn.RunError).Event()), nil
		}
		return new(protocol.Errored(task, e.Now(), err.Error()).Event()), nil
	}
	return reply, err
}

// execute runs the configuration for an event. Received is the event as the bridge signed it, and seen is the
// event itself.
func (e *Executor) execute(ctx context.Context, task keptn.Task, received, seen event.Event) (*event.Event, error) {
	asked := e.Now()
	file, err := e.read(ctx, task, received)
	switch {
	case errors.Is(err, files.ErrNotFound):
		return e.nothing(ctx, task, fmt.Sprintf("there is no %s for service %s, nor for stage %s or project %s",
			jobconfig.Path, task.Service, task.Stage, task.Project)), nil
	case errors.Is(err, files.ErrOver):
		e.Log.InfoContext(ctx, "nothing to run: Keptn no longer waits for the task", "project", task.Project, "triggeredid", task.TriggeredID)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", jobconfig.Path, err)
	}
	envelope, err := envelopeOf(seen)
	if err != nil {
		return nil, function.Permanent(err)
	}
	config := jobconfig.Parse(file.Content)
	if err := config.CheckCost(len(seen.Data())); err != nil {
		return nil, plan.MistakeOf(err)
	}
	actions := config.Match(envelope)
	for index := range actions {
		actions[index].Silent = actions[index].Silent || task.Observed
	}
	if len(actions) == 0 {
		if wrong := config.MistakesFor(nil, seen.Type()); len(wrong) > 0 {
			return nil, plan.MistakeOf(wrong)
		}
		why := fmt.Sprintf("no action of %s matches %s: %s", jobconfig.Path, seen.Type(), config.Selectors())
		if all := config.All(); len(all) > 0 {
			why = all.Error()
		}
		return e.nothing(ctx, task, why), nil
	}
	return e.start(ctx, plan.Plan{
		Rules: e.Configuration.Rules, Cluster: e.Cluster, Task: task, Envelope: envelope, Log: e.Log,
		ConfigHash: config.Hash, Grant: file.Grant.Token, IsTraced: trace.SpanFromContext(ctx).IsRecording(),
	}, config, actions, func(jobs []batchv1.Job) error {
		return e.create(ctx, jobs, received, begin{asked, file.Grant.Started, task.GitCommitID != "" && file.Level != files.ProjectLevel})
	})
}

// read reads the file within a span.
func (e *Executor) read(ctx context.Context, task keptn.Task, received event.Event) (File, error) {
	ctx, span := e.Tracer.Start(ctx, "read "+jobconfig.Path)
	defer span.End()
	file, err := e.Files.Configuration(ctx, received)
	if err == nil {
		span.SetAttributes(
			attribute.String("job_executor.file.level", string(file.Level)), attribute.Int("job_executor.file.bytes", len(file.Content)),
			attribute.String("vcs.ref.head.revision", task.GitCommitID),
		)
	}
	return file, err
}

// start creates the Jobs of the matching actions, at least one, and returns the started answer.
func (e *Executor) start(
	ctx context.Context, planned plan.Plan, config *jobconfig.Config, actions []jobconfig.MatchedAction, create func([]batchv1.Job) error,
) (*event.Event, error) {
	task := planned.Task
	made, err := planned.Run(ctx, config, actions)
	if err == nil {
		err = create(made.Jobs)
	}
	switch {
	case !slices.ContainsFunc(actions, plan.IsLoud):
		if plan.IsMistake(err) {
			e.Log.WarnContext(ctx, "the task of a silent action cannot run", "project", task.Project, "error", err)
			return new(protocol.Log(task, e.Now(), err.Error(), keptn.RunError).Event()), nil
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	says := images(made.Jobs)
	if most := e.Configuration.MaxActiveRuns; most > 0 {
		says += fmt.Sprintf("It begins once fewer than %d of project %s are under way.\n", most, task.Project)
	}
	answer := protocol.Answer{Task: task, Phase: keptn.Started, At: e.Now(), Outcome: keptn.Outcome{Message: says}}
	reports := func(action jobconfig.MatchedAction) bool { return plan.IsLoud(action) && len(action.Tasks) > 0 }
	if !slices.ContainsFunc(made.Actions, reports) { // no Job would report a result
		answer = protocol.Finished(task, e.Now(), keptn.Outcome{
			Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: "The matching actions have no tasks.",
		}, keptn.RunSuccess)
	}
	answer.Logged = made.Logged
	return new(answer.Event()), nil
}

// images lists the image of each task, up to a limit.
func images(jobs []batchv1.Job) string {
	const most = 20
	var text strings.Builder
	for index := range jobs {
		if index == most {
			fmt.Fprintf(&text, "and %d more\n", len(jobs)-most)
			break
		}
		fmt.Fprintf(&text, "Task '%s' runs %s\n", jobs[index].Annotations[run.TaskNameAnnotation], jobs[index].Spec.Template.Spec.Containers[0].Image)
	}
	return text.String()
}

// nothing answers a task for which nothing runs with an entry of Keptn's log, where users look. Nobody waits
// for an observed event.
func (e *Executor) nothing(ctx context.Context, task keptn.Task, why string) *event.Event {
	e.Log.InfoContext(ctx, "nothing to run", "project", task.Project, "stage", task.Stage, "service", task.Service, "task", task.Name, "reason", why)
	if task.Observed {
		return nil
	}
	return new(protocol.Log(task, e.Now(), fmt.Sprintf("Nothing is run for task %s: %s", task.Name, why), keptn.RunSkip).Event())
}

// create creates the first Job last. Until it exists nothing runs, and another delivery continues where this
// one was interrupted. Once it exists the run is complete, and deleted Jobs are not created again. If an
// earlier attempt used another version of the file, its Jobs are deleted and the run starts over. A run with
// one Job of an unchangeable file is created without listing first: its name is unique, so a duplicate create
// fails with AlreadyExists.
func (e *Executor) create(ctx context.Context, jobs []batchv1.Job, received event.Event, begin begin) error {
	if len(jobs) == 0 || begin.started {
		return nil
	}
	ctx, span := e.Tracer.Start(ctx, "create Jobs", trace.WithAttributes(attribute.Int("job_executor.jobs", len(jobs))))
	defer span.End()
	first := &jobs[0]
	if e.Configuration.MaxActiveRuns > 0 {
		at := received.Time()
		if at.IsZero() {
			at = e.Now()
		}
		run.Queue(first, at)
	}
	var there []batchv1.Job
	if len(jobs) > 1 || !begin.pinned {
		var err error
		if there, err = e.Jobs.List(ctx, first.Labels[run.EventIDLabel]); err != nil {
			return err
		}
	}
	begun := false
	for index := range there {
		begun = begun || there[index].Name == first.Name || run.PhaseOf(&there[index]) != run.Waiting
	}
	if begun {
		return nil
	}
	for index := range there {
		if there[index].Labels[run.ConfigHashLabel] != first.Labels[run.ConfigHashLabel] {
			if err := e.Jobs.Delete(ctx, &there[index]); err != nil {
				return err
			}
		}
	}
	for index := range jobs {
		job := &jobs[(index+1)%len(jobs)]
		if job == first && e.Now().Sub(begin.asked) > freshFor {
			grant, err := e.Files.Grant(ctx, received)
			if errors.Is(err, files.ErrOver) || err == nil && grant.Started {
				return nil // another delivery has begun it, and its Jobs may be gone
			}
			if err != nil {
				return err
			}
		}
		created, err := e.Jobs.Create(ctx, job)
		switch {
		case err == nil && created != nil:
			there = append(there, *created)
		case err == nil && job == first:
			return nil // another delivery was faster
		case err != nil && isRefusal(err) && !isQuota(err):
			if failure := e.discard(ctx, there); failure != nil {
				return failure // report only after all Jobs are deleted
			}
			// This is RBAC's message. A webhook, or a Job of another installation, also causes Forbidden.
			if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create resource") || apierrors.IsNotFound(err) {
				err = fmt.Errorf("namespace %q does not exist, or lacks the roles of Job Executor: %w", job.Namespace, err)
			}
			return plan.Mistakef("Error while creating job: %w", err)
		case err != nil:
			return err
		}
	}
	e.Log.InfoContext(ctx, "run created", "job", first.Name, "namespace", first.Namespace, "jobs", len(jobs))
	return nil
}

// begin is the state of a task before its run is created.
type begin struct {
	// asked is when Keptn was asked whether the task has started.
	asked time.Time
	// started is true if it has.
	started bool
	// pinned is true if the file is at a commit, and so the same for every delivery.
	pinned bool
}

// freshFor is how long Keptn's answer that a task has not started is trusted.
const freshFor = 2 * time.Second

// isRefusal reports whether the API server rejected the Job itself, so that a retry is useless.
func isRefusal(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}

// isQuota reports whether a quota is used up. That is temporary, and not the task author's mistake.
func isQuota(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// discard deletes the created Jobs of a run that cannot be completed, but no Jobs of others with their names.
func (e *Executor) discard(ctx context.Context, jobs []batchv1.Job) error {
	var failures []error
	for index := range jobs {
		failures = append(failures, e.Jobs.Delete(ctx, &jobs[index]))
	}
	return errors.Join(failures...)
}

// maxDepth bounds the nesting of an event. MongoDB stores no deeper documents, and JSONPaths need memory for
// each level.
const maxDepth = 100

// depthOf returns the nesting depth of JSON.
func depthOf(content []byte) (deepest int) {
	depth, inText := 0, false
	for index := 0; index < len(content); index++ {
		switch char := content[index]; {
		case inText && char == '\\':
			index++
		case char == '"':
			inText = !inText
		case inText:
		case char == '{' || char == '[':
			depth++
			deepest = max(deepest, depth)
		case char == '}' || char == ']':
			depth--
		}
	}
	return deepest
}

// envelopeOf returns the event as expressions in job/config.yaml see it.
func envelopeOf(triggered event.Event) (jobconfig.Envelope, error) {
	if depth := depthOf(triggered.Data()); depth > maxDepth {
		return nil, fmt.Errorf("the data of event %s is nested deeper than %d levels", triggered.ID(), maxDepth)
	}
	var data any
	decoder := json.NewDecoder(bytes.NewReader(triggered.Data()))
	decoder.UseNumber()
	if err := decoder.Decode(&data); err != nil {
		return nil, fmt.Errorf("decode the data of event %s: %w", triggered.ID(), err)
	}
	envelope := jobconfig.Envelope{
		"id":          triggered.ID(),
		"type":        triggered.Type(),
		"source":      triggered.Source(),
		"time":        triggered.Time().Format(time.RFC3339Nano),
		"specversion": triggered.SpecVersion(),
		"data":        data,
	}
	for _, name := range []string{keptn.ContextExtension, keptn.GitCommitIDExtension} {
		// Events of older Keptns have no commit.
		envelope[name], _ = triggered.Extensions()[name].(string)
	}
	return envelope, nil
}
