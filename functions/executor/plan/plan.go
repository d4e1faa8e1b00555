package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Cluster answers questions about the Jobs' namespaces.
type Cluster interface {
	// Secret returns a Secret's keys and labels, nil if it does not exist.
	Secret(ctx context.Context, namespace, name string) (*Object, error)
	// ServiceAccount returns a service account's labels, nil if it does not exist.
	ServiceAccount(ctx context.Context, namespace, name string) (*Object, error)
	// RefusesPod returns why the namespace's pod security does not allow a pod; empty if it does, or if that is
	// unknown.
	RefusesPod(ctx context.Context, namespace string, spec *corev1.PodSpec) (why string, err error)
}

// Object is a Secret or service account.
type Object struct {
	Labels map[string]string
	// Keys are the sorted keys of a Secret.
	Keys []string
}

const (
	defaultTaskSeconds = 300
	defaultTTLSeconds  = 21600
	minTTLSeconds      = 60
	// minObservedTTLSeconds is longer than any delivery of an event. Only the Jobs show that an observed event
	// was handled; for a task, Keptn knows.
	minObservedTTLSeconds = 900
	// pendingSeconds is how long a pod may take to start, and to stop after its own deadline. The Job's
	// deadline deletes the pod with its log, so it is only a backstop.
	pendingSeconds = 600

	filesVolume = "keptn-files"
	filesPath   = "/keptn"
)

// Mistake is an error that the author of a job/config.yaml must fix. It is reported to Keptn and never retried.
type Mistake struct{ error }

// Unwrap returns the error.
func (m Mistake) Unwrap() error { return m.error }

// Mistakef returns a Mistake with a formatted text, like fmt.Errorf.
func Mistakef(format string, arguments ...any) error {
	return Mistake{fmt.Errorf(format, arguments...)}
}

// MistakeOf turns an error into a Mistake.
func MistakeOf(err error) error { return Mistake{err} }

// IsMistake reports whether an error is or wraps a Mistake.
func IsMistake(err error) bool {
	_, ok := errors.AsType[Mistake](err)
	return ok
}

// IsSilent reports whether an action is silent.
func IsSilent(action jobconfig.MatchedAction) bool { return action.Silent }

// IsLoud reports whether an action reports.
func IsLoud(action jobconfig.MatchedAction) bool { return !action.Silent }

// Plan renders the Jobs of a run. It has no side effects.
type Plan struct {
	Rules
	Cluster    Cluster
	Task       keptn.Task
	Envelope   jobconfig.Envelope
	ConfigHash string
	Grant      string
	// IsTraced is true if the spans of the run are exported.
	IsTraced bool
	Log      *slog.Logger
}

// Run is a planned run.
type Run struct {
	// Jobs are the Jobs in their order. All but the first are suspended.
	Jobs []batchv1.Job
	// Actions are the actions of the run.
	Actions []jobconfig.MatchedAction
	// Logged describes the mistakes of silent actions, which were left out.
	Logged string
}

// Run plans the run of the matching actions, at least one. It leaves out a silent action with a mistake if
// other actions report. Its errors are Mistakes, or failures to read the cluster.
func (p Plan) Run(ctx context.Context, config *jobconfig.Config, actions []jobconfig.MatchedAction) (Run, error) {
	deciding := slices.DeleteFunc(slices.Clone(actions), IsSilent)
	isLoud := len(deciding) > 0
	if !isLoud {
		deciding = actions
	}
	if wrong := config.MistakesOf(deciding); len(wrong) > 0 {
		return Run{}, MistakeOf(wrong)
	}
	room := maxRunJobs - tasksOf(deciding)
	if room < 0 {
		return Run{}, tooMany(tasksOf(deciding))
	}
	result, total, found := Run{}, 0, &mistakes{}
	for _, action := range actions {
		jobs, err := p.jobs(ctx, action, len(result.Jobs) == 0)
		if isLoud && action.Silent {
			if room -= len(jobs); err == nil && room < 0 {
				err = tooMany(maxRunJobs - room)
			}
			if IsMistake(err) {
				p.Log.WarnContext(ctx, "leaving out a silent action: it cannot run", "action", action.Name, "error", err)
				result.Logged += err.Error() + "\n"
				continue
			}
		}
		if err := found.add(err); err != nil {
			return Run{}, err
		}
		result.Actions, result.Jobs = append(result.Actions, action), append(result.Jobs, jobs...)
		if total += sizeOf(jobs); total > maxRunBytes {
			return Run{}, tooLarge() // before planning many more
		}
	}
	if err := found.err(); err != nil {
		return Run{}, err
	}
	if err := p.note(result); err != nil {
		return Run{}, err
	}
	if sizeOf(result.Jobs) > maxRunBytes { // including the plan
		return Run{}, tooLarge()
	}
	return result, nil
}

func tasksOf(actions []jobconfig.MatchedAction) (count int) {
	for _, action := range actions {
		count += len(action.Tasks)
	}
	return count
}

func tooMany(tasks int) error {
	return Mistakef("the matching actions have %d tasks; the limit per event is %d", tasks, maxRunJobs)
}

// jobs plans the Jobs of an action. First is true if no action before it has Jobs.
func (p Plan) jobs(ctx context.Context, action jobconfig.MatchedAction, isFirst bool) ([]batchv1.Job, error) {
	if len(action.Mistakes) > 0 {
		return nil, MistakeOf(action.Mistakes)
	}
	keptnTask, err := json.Marshal(p.Task)
	if err != nil {
		return nil, fmt.Errorf("encode the task: %w", err)
	}
	var jobs []batchv1.Job
	found := &mistakes{}
	for taskIndex, task := range action.Tasks {
		later := !isFirst || taskIndex > 0 && !action.Parallel
		wrong := &mistakes{}
		job, err := p.jobOf(ctx, action, taskIndex, task, string(keptnTask), later, !isFirst || taskIndex > 0, wrong)
		if err != nil {
			return nil, fmt.Errorf("action %q, task %q: %w", action.Name, task.Name, err)
		}
		for _, mistake := range wrong.all {
			found.all = append(found.all, fmt.Errorf("action %q, task %q%s: %w", action.Name, task.Name, lineOf(task), mistake))
		}
		jobs = append(jobs, job)
	}
	return jobs, found.err()
}

func lineOf(task jobconfig.Task) string {
	if task.Line() == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", task.Line())
}

// jobOf plans one Job. All mistakes are added to wrong. The error means that the cluster cannot be read.
func (p Plan) jobOf(
	ctx context.Context, action jobconfig.MatchedAction, taskIndex int, task jobconfig.Task, keptnTask string, later, suspend bool, wrong *mistakes,
) (batchv1.Job, error) {
	spec, deadlineSource, err := p.podSpec(ctx, task, later, wrong)
	if err != nil || len(wrong.all) > 0 {
		return batchv1.Job{}, err
	}
	why, err := p.refusal(ctx, task, spec)
	if err != nil {
		return batchv1.Job{}, err
	}
	if why != "" {
		return batchv1.Job{}, wrong.add(Mistakef("Kubernetes would reject its pod: %s", why))
	}
	job := p.job(action, taskIndex, task, keptnTask, spec, suspend)
	job.Annotations[run.DeadlineAnnotation] = deadlineSource
	if later {
		unchecked, err := p.unchecked(spec)
		if err != nil {
			return batchv1.Job{}, err
		}
		if !unchecked.IsNothing() {
			content, err := json.Marshal(unchecked)
			if err != nil {
				return batchv1.Job{}, fmt.Errorf("encode what is unchecked: %w", err)
			}
			job.Annotations[run.UncheckedAnnotation] = string(content)
		}
	}
	if size := job.Size(); size > maxJobBytes {
		return batchv1.Job{}, wrong.add(Mistakef("its Job would have %d bytes; the limit is %d. Pass a smaller part of the event to env", size, maxJobBytes))
	}
	return job, nil
}

// mistakes collects all mistakes of a file, so that one run reports all of them.
type mistakes struct{ all []error }

// add adds a mistake. It returns any other error.
func (m *mistakes) add(err error) error {
	if err == nil || !IsMistake(err) {
		return err
	}
	if several, ok := errors.AsType[severalMistakes](err); ok {
		m.all = append(m.all, several...)
		return nil
	}
	m.all = append(m.all, err)
	return nil
}

// severalMistakes are the mistakes of an action.
type severalMistakes []error

// Error lists them.
func (s severalMistakes) Error() string {
	text := fmt.Sprintf("%s cannot be run for %d reasons:", jobconfig.Path, len(s))
	for index, mistake := range s {
		if index == maxTold {
			text += fmt.Sprintf("\n- and %d more", len(s)-maxTold)
			break
		}
		text += "\n- " + mistake.Error()
	}
	return text
}

// err returns nil, the only mistake, or all mistakes as a list.
func (m *mistakes) err() error {
	switch len(m.all) {
	case 0:
		return nil
	case 1:
		return m.all[0]
	}
	return Mistake{severalMistakes(m.all)}
}

// maxTold bounds how many mistakes are reported at once.
const maxTold = 20

// note writes the plan of the run to each of its Jobs.
func (p Plan) note(result Run) error {
	isMixed := slices.ContainsFunc(result.Actions, IsSilent) && slices.ContainsFunc(result.Actions, IsLoud)
	var planned []run.Planned
	for _, action := range result.Actions {
		for taskIndex, task := range action.Tasks {
			planned = append(planned, run.Planned{
				Namespace: p.namespace(task), Name: run.Name(run.ID(p.Task.TriggeredID), action.Index, taskIndex+1), Task: task.Name,
				Action: action.Index, Parallel: action.Parallel, Reports: isMixed && IsLoud(action),
			})
		}
	}
	encoded, err := run.EncodePlan(run.ID(p.Task.TriggeredID), planned)
	if err != nil {
		return err
	}
	for index := range result.Jobs {
		result.Jobs[index].Annotations[run.PlanAnnotation] = encoded
	}
	return nil
}

func sizeOf(jobs []batchv1.Job) (total int) {
	for index := range jobs {
		total += jobs[index].Size()
	}
	return total
}

func tooLarge() error {
	return Mistakef("the Jobs of the matching actions exceed the limit of %d bytes per event", maxRunBytes)
}

const (
	// maxRunJobs, maxJobBytes and maxRunBytes bound the Jobs of one event. All Jobs exist from the beginning.
	maxRunJobs  = 100
	maxJobBytes = 256 << 10
	maxRunBytes = 4 << 20
)

func (p Plan) job(action jobconfig.MatchedAction, taskIndex int, task jobconfig.Task, keptnTask string, spec *corev1.PodSpec, suspend bool) batchv1.Job {
	runID := run.ID(p.Task.TriggeredID)
	ttl := int32(defaultTTLSeconds)
	if task.TTLSecondsAfterFinished != nil {
		ttl = max(*task.TTLSecondsAfterFinished, minTTLSeconds)
	}
	if p.Task.Observed {
		ttl = max(ttl, minObservedTTLSeconds)
	}
	labels := map[string]string{}
	maps.Copy(labels, p.JobLabels)
	maps.Copy(labels, task.Labels)
	maps.Copy(labels, map[string]string{
		run.ManagedByLabel:   run.ManagedBy,
		run.InstanceLabel:    p.Installation,
		run.ContextLabel:     run.LabelValue(p.Task.Context),
		run.EventIDLabel:     runID,
		run.CommitIDLabel:    run.LabelValue(p.Task.GitCommitID),
		run.ActionLabel:      run.LabelValue(action.Name),
		run.TaskLabel:        run.LabelValue(task.Name),
		run.ConfigHashLabel:  p.ConfigHash,
		run.ActionIndexLabel: strconv.Itoa(action.Index),
		run.TaskIndexLabel:   strconv.Itoa(taskIndex),
		run.ProjectLabel:     run.LabelValue(p.Task.Project),
		run.StageLabel:       run.LabelValue(p.Task.Stage),
		run.ServiceLabel:     run.LabelValue(p.Task.Service),
	})
	annotations := maps.Clone(task.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[run.VersionAnnotation] = run.Version
	annotations[run.TaskAnnotation] = keptnTask
	annotations[run.ActionNameAnnotation] = action.Name
	annotations[run.TaskNameAnnotation] = task.Name
	annotations[run.TTLAnnotation] = strconv.Itoa(int(ttl))
	if p.IsTraced {
		p.trace(spec, task, p.namespace(task), run.Name(runID, action.Index, taskIndex+1))
	}
	if action.Silent {
		annotations[run.SilentAnnotation] = "true"
	}
	retries := int64(0)
	if task.Retries != nil {
		retries = *task.Retries
	}
	job := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.namespace(task), Name: run.Name(runID, action.Index, taskIndex+1),
			Labels: labels, Annotations: annotations,
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:          new(int32(retries)), //nolint:gosec // a few
			Suspend:               new(suspend),
			ActiveDeadlineSeconds: new((*spec.ActiveDeadlineSeconds + pendingSeconds) * (retries + 1)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(labels), Annotations: maps.Clone(task.Annotations)},
				Spec:       *spec,
			},
		},
	}
	if retries > 0 {
		// Attempts must not overlap: the next one waits until the pod of the last one has ended.
		job.Spec.PodReplacementPolicy = new(batchv1.Failed)
		// A drained node is not the task's failure.
		job.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}}
	}
	return job
}
