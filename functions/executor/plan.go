package executor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/glob"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Cluster answers what has to be known of the Jobs' namespaces before a run.
type Cluster interface {
	// SecretKeys returns the sorted keys of a Secret, false if there is none.
	SecretKeys(ctx context.Context, namespace, name string) ([]string, bool, error)
	// HasServiceAccount says whether a service account exists.
	HasServiceAccount(ctx context.Context, namespace, name string) (bool, error)
}

const (
	defaultTaskSeconds = 300
	defaultTTLSeconds  = 21600
	minTTLSeconds      = 60
	// pendingSeconds is how long a pod may take until it starts, and beyond its
	// own deadline until it has stopped. The Job's deadline deletes the pod with
	// its log, so it is only the backstop.
	pendingSeconds = 600

	filesVolume = "keptn-files"
	filesPath   = "/keptn"
)

// plan makes Jobs from a configuration. It changes nothing.
type plan struct {
	Configuration
	Cluster     Cluster
	Task        keptn.Task
	Envelope    jobconfig.Envelope
	ConfigHash  string
	Grant       string
	Traceparent string
	Log         *slog.Logger
}

// jobs returns the run's Jobs in their order, all but the first suspended. Its
// errors are mistakes of the configuration, or failures to read the cluster.
func (plan plan) jobs(ctx context.Context, actions []jobconfig.MatchedAction) ([]batchv1.Job, error) {
	keptnTask, err := json.Marshal(plan.Task)
	if err != nil {
		return nil, fmt.Errorf("encoding the task: %w", err)
	}
	planned, err := plan.planned(actions)
	if err != nil {
		return nil, err
	}
	names, err := json.Marshal(planned)
	if err != nil {
		return nil, fmt.Errorf("encoding the plan: %w", err)
	}
	var jobs []batchv1.Job
	for _, action := range actions {
		for taskIndex, task := range action.Tasks {
			suspend := len(jobs) > 0
			spec, deadlineSource, err := plan.podSpec(ctx, task, suspend)
			if err != nil {
				return nil, fmt.Errorf("action %q, task %q: %w", action.Name, task.Name, err)
			}
			job := plan.job(action, taskIndex, task, string(keptnTask), spec, suspend)
			job.Annotations[run.PlanAnnotation] = string(names)
			job.Annotations[run.DeadlineAnnotation] = deadlineSource
			if size := job.Size(); size > maxJobBytes {
				return nil, mistakef("action %q, task %q: its Job would have %d bytes, more than the %d that are allowed; take less of the event into its env", action.Name, task.Name, size, maxJobBytes)
			}
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// withoutWrongSilent leaves out the silent actions that can't be run, beside others that
// report: they have no influence on those. Logged is what is wrong with them.
func (plan plan) withoutWrongSilent(ctx context.Context, actions []jobconfig.MatchedAction) (
	left []jobconfig.MatchedAction, logged string, err error,
) {
	if !slices.ContainsFunc(actions, isLoud) {
		return actions, "", nil
	}
	for _, action := range actions {
		if action.Silent {
			_, err := plan.jobs(ctx, []jobconfig.MatchedAction{action})
			if len(action.Mistakes) > 0 {
				err = mistake{action.Mistakes}
			}
			if _, wrong := errors.AsType[mistake](err); wrong {
				plan.Log.WarnContext(ctx, "a silent action can't be run", "action", action.Name, "error", err)
				logged += err.Error() + "\n"
				continue
			}
			if err != nil {
				return nil, "", err
			}
		}
		left = append(left, action)
	}
	return left, logged, nil
}

const (
	// maxRunJobs and maxJobBytes bound what one event can make: all Jobs of a run are
	// there from the beginning.
	maxRunJobs  = 100
	maxJobBytes = 256 << 10
)

// planned are the names of all Jobs of the run, in their order.
func (plan plan) planned(actions []jobconfig.MatchedAction) ([]run.Planned, error) {
	var planned []run.Planned
	isMixed := slices.ContainsFunc(actions, isSilent) && slices.ContainsFunc(actions, isLoud)
	for _, action := range actions {
		for taskIndex, task := range action.Tasks {
			planned = append(planned, run.Planned{
				Namespace: plan.namespace(task), Name: run.Name(run.ID(plan.Task.TriggeredID), action.Index, taskIndex+1), Task: task.Name,
				Action: action.Index, Reports: isMixed && isLoud(action),
			})
		}
	}
	if len(planned) > maxRunJobs {
		return nil, mistakef("the matching actions have %d tasks, more than the %d that one event may run", len(planned), maxRunJobs)
	}
	return planned, nil
}

func (plan plan) job(action jobconfig.MatchedAction, taskIndex int, task jobconfig.Task, keptnTask string, spec *corev1.PodSpec, suspend bool) batchv1.Job {
	runID := run.ID(plan.Task.TriggeredID)
	ttl := int32(defaultTTLSeconds)
	if task.TTLSecondsAfterFinished != nil {
		ttl = max(*task.TTLSecondsAfterFinished, minTTLSeconds)
	}
	labels := map[string]string{
		run.ManagedByLabel:   run.ManagedBy,
		run.InstanceLabel:    plan.Installation,
		run.ContextLabel:     run.LabelValue(plan.Task.Context),
		run.EventIDLabel:     runID,
		run.CommitIDLabel:    run.LabelValue(plan.Task.GitCommitID),
		run.ActionLabel:      run.LabelValue(action.Name),
		run.TaskLabel:        run.LabelValue(task.Name),
		run.ConfigHashLabel:  plan.ConfigHash,
		run.ActionIndexLabel: strconv.Itoa(action.Index),
		run.TaskIndexLabel:   strconv.Itoa(taskIndex),
	}
	annotations := maps.Clone(task.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[run.TaskAnnotation] = keptnTask
	annotations[run.ActionNameAnnotation] = action.Name
	annotations[run.TaskNameAnnotation] = task.Name
	annotations[run.TTLAnnotation] = strconv.Itoa(int(ttl))
	if plan.Traceparent != "" {
		annotations[run.TraceparentAnnotation] = plan.Traceparent
	}
	if action.Silent {
		annotations[run.SilentAnnotation] = "true"
	}
	return batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: plan.namespace(task), Name: run.Name(runID, action.Index, taskIndex+1),
			Labels: labels, Annotations: annotations,
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:          new(int32(0)),
			Suspend:               new(suspend),
			ActiveDeadlineSeconds: new(*spec.ActiveDeadlineSeconds + pendingSeconds),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(labels), Annotations: maps.Clone(task.Annotations)},
				Spec:       *spec,
			},
		},
	}
}

func (plan plan) namespace(task jobconfig.Task) string {
	if task.Namespace != "" {
		return task.Namespace
	}
	return plan.Namespaces[0]
}

// podSpec is the pod of a task, which may be one that runs later: what it names in the
// cluster a task before it may make.
func (plan plan) podSpec(ctx context.Context, task jobconfig.Task, later bool) (spec *corev1.PodSpec, deadlineSource string, err error) {
	namespace := plan.namespace(task)
	if !slices.Contains(plan.Namespaces, namespace) {
		return nil, "", mistakef("namespace %q is not one of those in which Jobs may run: %s", namespace, strings.Join(plan.Namespaces, ", "))
	}
	if err := plan.checkImage(task.Image); err != nil {
		return nil, "", err
	}
	serviceAccount := *cmp.Or(task.ServiceAccount, &plan.ServiceAccount)
	if serviceAccount == "" {
		serviceAccount = "default" // as Kubernetes has it
	}
	if found, err := plan.Cluster.HasServiceAccount(ctx, namespace, serviceAccount); err != nil {
		return nil, "", err
	} else if !found && !later {
		return nil, "", mistakef("service account %q does not exist in namespace %q", serviceAccount, namespace)
	}
	securityContext, err := plan.securityContext(task.SecurityContext)
	if err != nil {
		return nil, "", err
	}
	environment, secrets, err := plan.environment(ctx, namespace, task, later)
	if err != nil {
		return nil, "", err
	}
	resources, err := plan.resources(task.Resources)
	if err != nil {
		return nil, "", err
	}
	seconds, deadlineSource := plan.deadline(task)
	mounts := []corev1.VolumeMount{{Name: filesVolume, MountPath: filesPath}}
	spec = &corev1.PodSpec{
		RestartPolicy:         corev1.RestartPolicyNever,
		ActiveDeadlineSeconds: &seconds,
		ServiceAccountName:    serviceAccount,
		EnableServiceLinks:    new(false),

		TerminationGracePeriodSeconds: &plan.TerminationGraceSeconds,
		SecurityContext: &corev1.PodSecurityContext{
			FSGroup:        new(int64(defaultGroup)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: []corev1.Volume{{Name: filesVolume, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &plan.VolumeSize.Quantity},
		}}},
		Containers: []corev1.Container{{
			Name: run.TaskContainer, Image: task.Image, ImagePullPolicy: corev1.PullPolicy(task.ImagePullPolicy),
			Command: task.Cmd, Args: task.Args, WorkingDir: task.WorkingDir,
			Env: environment, EnvFrom: secrets, Resources: resources, VolumeMounts: mounts, SecurityContext: securityContext,
		}},
	}
	if len(task.Files) > 0 {
		fetcher, err := plan.fetcher(task.Files, seconds)
		if err != nil {
			return nil, "", err
		}
		fetcher.VolumeMounts = mounts
		spec.InitContainers = []corev1.Container{fetcher}
	}
	return spec, deadlineSource, nil
}

// deadline is how long a task may take, and what says so.
func (plan plan) deadline(task jobconfig.Task) (seconds int64, source string) {
	seconds, source = defaultTaskSeconds, "the default of maxPollDuration"
	if task.MaxPollDuration != nil {
		seconds, source = *task.MaxPollDuration, "maxPollDuration"
	}
	if limit := plan.TaskDeadlineSeconds; limit > 0 && limit < seconds {
		seconds, source = limit, "TASK_DEADLINE_SECONDS of the installation"
	}
	return seconds, source
}

// fetcher is the init container that puts the task's files below /keptn. Its
// grant is good for just these files and expires; it is the only thing the pod
// is given.
func (plan plan) fetcher(files []string, seconds int64) (corev1.Container, error) {
	list, err := json.Marshal(files)
	if err != nil {
		return corev1.Container{}, fmt.Errorf("encoding the list of files: %w", err)
	}
	securityContext, err := plan.securityContext(jobconfig.SecurityContext{})
	if err != nil {
		return corev1.Container{}, err
	}
	resources, err := plan.resources(nil)
	if err != nil {
		return corev1.Container{}, err
	}
	return corev1.Container{
		Name: run.FetcherContainer, Image: plan.FetcherImage,
		Env: []corev1.EnvVar{
			{Name: "FILES", Value: string(list)},
			{Name: "TARGET", Value: filesPath},
			{Name: "BRIDGE_URL", Value: plan.BridgeURL},
			{Name: "GRANT", Value: plan.Grant},
			// It has the Job's own time: Keptn or the bridge may be away for a while.
			{Name: "TIMEOUT", Value: (time.Duration(seconds) * time.Second).String()},
		},
		Resources: resources, SecurityContext: securityContext,
	}, nil
}

func (plan plan) checkImage(image string) error {
	patterns := plan.AllowedImages
	if len(patterns) == 0 {
		return nil
	}
	for _, pattern := range patterns {
		compiled, err := glob.Compile(strings.TrimSpace(pattern))
		if err != nil {
			return fmt.Errorf("pattern %q of ALLOWED_IMAGES: %w", pattern, err)
		}
		if compiled.Match(image) {
			return nil
		}
	}
	return mistakef("Forbidden: Image %s does not match configured image allowlist", image)
}

// defaultUser and defaultGroup are the job-executor-service's.
const (
	defaultUser  = 1000
	defaultGroup = 2000
)

func (plan plan) securityContext(wanted jobconfig.SecurityContext) (*corev1.SecurityContext, error) {
	if wanted.Privileged != nil && *wanted.Privileged && !plan.AllowPrivileged {
		return nil, mistakef("privileged containers are not allowed")
	}
	context := &corev1.SecurityContext{
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		Privileged:               wanted.Privileged,
		RunAsUser:                cmp.Or(wanted.RunAsUser, new(int64(defaultUser))),
		RunAsGroup:               cmp.Or(wanted.RunAsGroup, new(int64(defaultGroup))),
		RunAsNonRoot:             cmp.Or(wanted.RunAsNonRoot, new(true)),
		ReadOnlyRootFilesystem:   cmp.Or(wanted.ReadOnlyRootFilesystem, new(true)),
		AllowPrivilegeEscalation: cmp.Or(wanted.AllowPrivilegeEscalation, new(false)),
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if wanted.Privileged != nil && *wanted.Privileged {
		// The API takes no container that is privileged and may not get privileges.
		context.AllowPrivilegeEscalation = new(true)
	}
	if wanted.Capabilities != nil {
		context.Capabilities = &corev1.Capabilities{}
		for _, capability := range wanted.Capabilities.Add {
			context.Capabilities.Add = append(context.Capabilities.Add, corev1.Capability(capability))
		}
		for _, capability := range wanted.Capabilities.Drop {
			context.Capabilities.Drop = append(context.Capabilities.Drop, corev1.Capability(capability))
		}
	}
	if wanted.ProcMount != nil {
		context.ProcMount = new(corev1.ProcMountType(*wanted.ProcMount))
	}
	if profile := wanted.SeccompProfile; profile != nil {
		context.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileType(profile.Type), LocalhostProfile: profile.LocalhostProfile}
	}
	return context, nil
}

func (plan plan) resources(wanted *jobconfig.Resources) (corev1.ResourceRequirements, error) {
	settings := plan.Configuration
	if wanted == nil {
		return corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{corev1.ResourceCPU: settings.LimitCPU.Quantity, corev1.ResourceMemory: settings.LimitMemory.Quantity},
			Requests: corev1.ResourceList{corev1.ResourceCPU: settings.RequestCPU.Quantity, corev1.ResourceMemory: settings.RequestMemory.Quantity},
		}, nil
	}
	limits, err := resourceList("limits", wanted.Limits)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	requests, err := resourceList("requests", wanted.Requests)
	return corev1.ResourceRequirements{Limits: limits, Requests: requests}, err
}

func resourceList(kind string, wanted jobconfig.ResourceList) (corev1.ResourceList, error) {
	list := corev1.ResourceList{}
	for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: wanted.CPU, corev1.ResourceMemory: wanted.Memory} {
		if value == "" {
			continue
		}
		quantity, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, mistakef("resources.%s.%s %q is no quantity", kind, name, value)
		}
		list[name] = quantity
	}
	return list, nil
}

// environment is the task's environment. Keptn's own variables come last, so
// that they win, as the job-executor-service has it. Secrets are those that are not there
// yet, of which all keys become variables.
func (plan plan) environment(ctx context.Context, namespace string, task jobconfig.Task, later bool) (
	environment []corev1.EnvVar, secrets []corev1.EnvFromSource, err error,
) {
	for _, variable := range task.Env {
		switch variable.ValueFrom {
		case jobconfig.ValueFromString:
			environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: variable.Value})
		case jobconfig.ValueFromEvent:
			value, err := variable.EventValue(plan.Envelope)
			if err != nil {
				return nil, nil, mistake{err}
			}
			environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: literal(value)})
		case jobconfig.ValueFromSecret:
			secret := corev1.LocalObjectReference{Name: variable.Name}
			keys, found, err := plan.Cluster.SecretKeys(ctx, namespace, variable.Name)
			switch {
			case err != nil:
				return nil, nil, err
			case !found && later:
				secrets = append(secrets, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: secret}})
			case !found:
				return nil, nil, mistakef("could not add env with name %s: there is no Secret of this name in namespace %q", variable.Name, namespace)
			}
			for _, key := range keys {
				environment = append(environment, corev1.EnvVar{Name: key, ValueFrom: &corev1.EnvVarSource{
					SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: secret, Key: key},
				}})
			}
		}
	}
	for _, variable := range []corev1.EnvVar{
		{Name: "KEPTN_PROJECT", Value: plan.Task.Project},
		{Name: "KEPTN_STAGE", Value: plan.Task.Stage},
		{Name: "KEPTN_SERVICE", Value: plan.Task.Service},
	} {
		environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: literal(variable.Value)})
	}
	for _, label := range slices.Sorted(maps.Keys(plan.Task.Labels)) {
		name := "LABELS_" + strings.ToUpper(strings.NewReplacer("-", "_", " ", "_").Replace(label))
		if len(validation.IsRelaxedEnvVarName(name)) > 0 {
			plan.Log.WarnContext(ctx, "a label of the event is left out, since it makes no name of a variable", "label", label, "task", task.Name)
			continue
		}
		environment = append(environment, corev1.EnvVar{Name: name, Value: literal(plan.Task.Labels[label])})
	}
	return environment, secrets, nil
}

// literal is a text of an event as a variable's value: Kubernetes would put the values of
// other variables, Secrets among them, in place of $(NAME).
func literal(text string) string { return strings.ReplaceAll(text, "$", "$$") }
