package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// decision is what a triggered event causes.
type decision struct {
	// summary is the log line about it, and reason is why nothing runs.
	summary, reason string
	// jobs are the Jobs to create.
	jobs []batchv1.Job
	// answer is the reply once the Jobs exist; nil for none.
	answer *protocol.Answer
	// isSilent is true if all matching actions are silent.
	isSilent bool
}

// LogValue implements slog.LogValuer: it lists the Jobs and the phase of the answer.
func (d decision) LogValue() slog.Value {
	var parts []string
	for index := range d.jobs {
		parts = append(parts, "Job "+d.jobs[index].Namespace+"/"+d.jobs[index].Name)
	}
	if d.answer != nil {
		parts = append(parts, "answer "+string(d.answer.Phase))
	}
	return slog.StringValue(strings.Join(parts, ", "))
}

// decide decides what to run for an event. Reading is the error of reading the file:
// files.ErrNotFound, files.ErrOver, or nil. decide changes nothing.
func (e *Executor) decide(ctx context.Context, task keptn.Task, seen event.Event, file File, reading error) (decision, error) {
	switch {
	case errors.Is(reading, files.ErrNotFound):
		return e.nothing(task, fmt.Sprintf("there is no %s for service %s, nor for stage %s or project %s",
			jobconfig.Path, task.Service, task.Stage, task.Project)), nil
	case reading != nil:
		return decision{summary: "nothing to run", reason: "Keptn no longer waits for the task"}, nil
	}
	envelope, err := envelopeOf(seen)
	if err != nil {
		return decision{}, function.Permanent(err)
	}
	config := jobconfig.Parse(file.Content)
	if err := config.CheckCost(len(seen.Data())); err != nil {
		return e.mistake(task, err, false), nil
	}
	actions := config.Match(envelope)
	for index := range actions {
		actions[index].Silent = actions[index].Silent || task.Observed
	}
	if len(actions) == 0 {
		if wrong := config.MistakesFor(nil, seen.Type()); len(wrong) > 0 {
			return e.mistake(task, wrong, false), nil
		}
		why := fmt.Sprintf("no action of %s matches %s: %s", jobconfig.Path, seen.Type(), config.Selectors())
		if all := config.All(); len(all) > 0 {
			why = all.Error()
		}
		return e.nothing(task, why), nil
	}
	isSilent := !slices.ContainsFunc(actions, plan.IsLoud)
	planned, err := plan.Plan{
		Rules: e.Configuration.Rules, Cluster: e.Cluster, Task: task, Envelope: envelope, Log: e.Log,
		ConfigHash: config.Hash, Grant: file.Grant.Token, IsTraced: trace.SpanFromContext(ctx).IsRecording(),
	}.Run(ctx, config, actions)
	switch {
	case plan.IsMistake(err):
		return e.mistake(task, err, isSilent), nil
	case err != nil:
		return decision{}, err
	}
	decided := decision{summary: "event handled", jobs: planned.Jobs, isSilent: isSilent}
	if !isSilent {
		decided.answer = e.started(task, planned)
	}
	return decided, nil
}

// started returns the answer to a run's task: that it has started, or finished if no Job would report a result.
func (e *Executor) started(task keptn.Task, planned plan.Run) *protocol.Answer {
	message := images(planned.Jobs)
	if most := e.Configuration.MaxActiveRuns; most > 0 {
		message += fmt.Sprintf("It starts when fewer than %d runs of project %s are active.\n", most, task.Project)
	}
	answer := protocol.Answer{Task: task, Phase: keptn.Started, At: e.Now(), Outcome: keptn.Outcome{Message: message}}
	if !slices.ContainsFunc(planned.Actions, func(action jobconfig.MatchedAction) bool { return plan.IsLoud(action) && len(action.Tasks) > 0 }) {
		answer = protocol.Finished(task, e.Now(), keptn.Outcome{
			Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: "The matching actions have no tasks.",
		}, keptn.RunSuccess)
	}
	answer.Logged = planned.Logged
	return &answer
}

// mistake answers a task that cannot run. Only Keptn's log hears about the mistakes of silent actions.
func (e *Executor) mistake(task keptn.Task, err error, isSilent bool) decision {
	answer := protocol.Errored(task, e.Now(), err.Error())
	if isSilent || task.Observed {
		answer = protocol.Log(task, e.Now(), err.Error(), keptn.RunError)
	}
	return decision{summary: "task cannot run", reason: err.Error(), answer: &answer, isSilent: isSilent}
}

// nothing answers a task for which nothing runs with an entry of Keptn's log, where users look. Nobody waits
// for an observed event.
func (e *Executor) nothing(task keptn.Task, why string) decision {
	decided := decision{summary: "nothing to run", reason: why}
	if !task.Observed {
		decided.answer = new(protocol.Log(task, e.Now(), fmt.Sprintf("Nothing is run for task %s: %s", task.Name, why), keptn.RunSkip))
	}
	return decided
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
