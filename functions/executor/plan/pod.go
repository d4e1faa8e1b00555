package plan

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/run"
)

// namespace returns the namespace of a task: its own, or the first of its project's.
func (p Plan) namespace(task jobconfig.Task) string {
	if task.Namespace != "" {
		return task.Namespace
	}
	return p.NamespacesOf(p.Task.Project)[0]
}

// podSpec plans the pod of a task. A later task may reference objects that an earlier task creates.
func (p Plan) podSpec(ctx context.Context, task jobconfig.Task, later bool, wrong *mistakes) (spec *corev1.PodSpec, deadlineSource string, err error) {
	namespace := p.namespace(task)
	if err := wrong.add(p.checkImage(task.Image)); err != nil {
		return nil, "", err
	}
	if allowed := p.NamespacesOf(p.Task.Project); !slices.Contains(allowed, namespace) {
		// Return before looking anything up: the namespace belongs to another project.
		return nil, "", wrong.add(Mistakef("namespace %q is not allowed. Jobs may run in: %s", namespace, strings.Join(allowed, ", ")))
	}
	serviceAccount := *cmp.Or(task.ServiceAccount, &p.ServiceAccount)
	if serviceAccount == "" {
		serviceAccount = defaultAccount
	}
	if err := wrong.add(p.checkServiceAccount(ctx, namespace, serviceAccount, later)); err != nil {
		return nil, "", err
	}
	environment, secrets, err := p.environment(ctx, namespace, task, later, wrong)
	if err != nil {
		return nil, "", err
	}
	resources, resourcesErr := p.resources(task.Resources)
	size, sizeErr := p.volumeSize(task)
	for _, err := range []error{resourcesErr, sizeErr} {
		if err := wrong.add(err); err != nil {
			return nil, "", err
		}
	}
	seconds, deadlineSource := p.deadline(task)
	mounts := []corev1.VolumeMount{{Name: filesVolume, MountPath: filesPath}}
	security := securityContextOf(task.SecurityContext)
	spec = &corev1.PodSpec{
		RestartPolicy:         corev1.RestartPolicyNever,
		ActiveDeadlineSeconds: &seconds,
		ServiceAccountName:    serviceAccount,
		EnableServiceLinks:    new(false),

		TerminationGracePeriodSeconds: &p.TerminationGraceSeconds,
		SecurityContext: &corev1.PodSecurityContext{
			FSGroup:        new(int64(defaultGroup)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: []corev1.Volume{{Name: filesVolume, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: size},
		}}},
		NodeSelector: task.NodeSelector, Tolerations: task.Tolerations, Affinity: task.Affinity,
		Containers: []corev1.Container{{
			Name: run.TaskContainer, Image: task.Image, ImagePullPolicy: corev1.PullPolicy(task.ImagePullPolicy),
			Command: task.Cmd, Args: task.Args, WorkingDir: task.WorkingDir,
			Env: environment, EnvFrom: secrets, Resources: resources, VolumeMounts: mounts, SecurityContext: security,
		}},
	}
	if *security.ReadOnlyRootFilesystem && !slices.ContainsFunc(task.Volumes, isTemporary) {
		p.addTemporary(spec)
	}
	for _, secret := range task.ImagePullSecrets {
		if _, err := p.secret(ctx, namespace, secret, later); err != nil {
			if err := wrong.add(fmt.Errorf("imagePullSecrets: %w", err)); err != nil {
				return nil, "", err
			}
		}
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
	}
	addVolumes(spec, task.Volumes)
	if len(task.Files) > 0 {
		fetcher, err := p.fetcher(task.Files, seconds)
		if err != nil {
			return nil, "", err
		}
		fetcher.VolumeMounts = append(slices.Clip(mounts), corev1.VolumeMount{Name: tokenVolume, MountPath: tokenPath, ReadOnly: true})
		spec.Volumes = append(spec.Volumes, tokenOfThePod())
		spec.InitContainers = []corev1.Container{fetcher}
	}
	return spec, deadlineSource, nil
}

// refusal returns why pod security does not allow a task's pod. The installation's defaults are allowed
// everywhere.
func (p Plan) refusal(ctx context.Context, task jobconfig.Task, spec *corev1.PodSpec) (string, error) {
	if task.SecurityContext == (jobconfig.SecurityContext{}) {
		return "", nil
	}
	return p.Cluster.RefusesPod(ctx, p.namespace(task), spec)
}

const (
	temporaryVolume = "tmp"
	temporaryPath   = "/tmp"
)

func isTemporary(volume jobconfig.Volume) bool { return path.Clean(volume.MountPath) == temporaryPath }

// addTemporary adds a writable volume at /tmp, and HOME, to a task with a read-only root filesystem. The task's
// own variables follow HOME and so take precedence.
func (p Plan) addTemporary(spec *corev1.PodSpec) {
	task := &spec.Containers[0]
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: temporaryVolume, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &p.TemporarySize.Quantity},
	}})
	task.VolumeMounts = append(slices.Clip(task.VolumeMounts), corev1.VolumeMount{Name: temporaryVolume, MountPath: temporaryPath})
	task.Env = append([]corev1.EnvVar{{Name: "HOME", Value: temporaryPath}}, task.Env...)
}

// addVolumes adds the task's claims to its pod, each claim once.
func addVolumes(spec *corev1.PodSpec, volumes []jobconfig.Volume) {
	names := map[string]string{}
	for _, volume := range volumes {
		name, known := names[volume.Claim]
		if !known {
			name = fmt.Sprintf("claim-%d", len(names))
			names[volume.Claim] = name
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volume.Claim},
			}})
		}
		task := &spec.Containers[0]
		task.VolumeMounts = append(slices.Clip(task.VolumeMounts), corev1.VolumeMount{
			Name: name, MountPath: volume.MountPath, SubPath: volume.SubPath, ReadOnly: volume.ReadOnly,
		})
	}
}

// volumeSize returns the size limit of the volume at /keptn.
func (p Plan) volumeSize(task jobconfig.Task) (*resource.Quantity, error) {
	if task.VolumeSize == "" {
		return &p.VolumeSize.Quantity, nil
	}
	wanted, err := resource.ParseQuantity(task.VolumeSize)
	if err != nil {
		return nil, Mistakef("volumeSize %q is not a quantity", task.VolumeSize)
	}
	if most := p.MaxVolumeSize.Quantity; wanted.Cmp(most) > 0 {
		return nil, Mistakef("volumeSize %s exceeds the limit of %s (MAX_JOB_VOLUME_SIZE)", task.VolumeSize, most.String())
	}
	return &wanted, nil
}

// deadline returns how long a task may take, and the source of that limit.
func (p Plan) deadline(task jobconfig.Task) (seconds int64, source string) {
	seconds, source = defaultTaskSeconds, "the default of maxPollDuration"
	if task.MaxPollDuration != nil {
		seconds, source = *task.MaxPollDuration, "maxPollDuration"
	}
	if limit := p.TaskDeadlineSeconds; limit > 0 && limit < seconds {
		seconds, source = limit, "TASK_DEADLINE_SECONDS of the installation"
	}
	return seconds, source
}

const (
	tokenVolume = "bridge-token"
	tokenPath   = "/var/run/secrets/bridge" //nolint:gosec // a path
	tokenFile   = "token"
	// tokenSeconds is the lifetime of the token. Kubernetes rotates the token earlier, and revokes it with the pod.
	tokenSeconds = 3600
)

// tokenOfThePod returns a volume with the token that identifies the pod to the bridge. Its account needs no
// rights. Only the fetcher mounts it, so the grant is useless to the task's container and to readers of the
// Job.
func tokenOfThePod() corev1.Volume {
	return corev1.Volume{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: files.TokenAudience, ExpirationSeconds: new(int64(tokenSeconds)), Path: tokenFile,
		}}},
	}}}
}

// fetcher returns the init container that writes the task's files below /keptn. Its grant is only valid for
// these files and for the run's pods.
func (p Plan) fetcher(paths []string, seconds int64) (corev1.Container, error) {
	list, err := json.Marshal(paths)
	if err != nil {
		return corev1.Container{}, fmt.Errorf("encode the list of files: %w", err)
	}
	resources, err := p.resources(nil)
	if err != nil {
		return corev1.Container{}, err
	}
	return corev1.Container{
		Name: run.FetcherContainer, Image: p.FetcherImage,
		Env: []corev1.EnvVar{
			{Name: "FILES", Value: string(list)},
			{Name: "TARGET", Value: filesPath},
			{Name: "BRIDGE_URL", Value: p.BridgeURL},
			{Name: "GRANT", Value: p.Grant},
			{Name: "BRIDGE_TOKEN_FILE", Value: tokenPath + "/" + tokenFile},
			// Keptn or the bridge may be down for a while, so the fetcher has the Job's whole time.
			{Name: "TIMEOUT", Value: (time.Duration(seconds) * time.Second).String()},
		},
		Resources: resources, SecurityContext: securityContextOf(jobconfig.SecurityContext{}),
	}, nil
}

// defaultUser and defaultGroup are from the job-executor-service.
const (
	defaultUser  = 1000
	defaultGroup = 2000
)

func securityContextOf(wanted jobconfig.SecurityContext) *corev1.SecurityContext {
	security := &corev1.SecurityContext{
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
		// The API server rejects a privileged container without privilege escalation.
		security.AllowPrivilegeEscalation = new(true)
	}
	if wanted.Capabilities != nil {
		security.Capabilities = &corev1.Capabilities{}
		for _, capability := range wanted.Capabilities.Add {
			security.Capabilities.Add = append(security.Capabilities.Add, corev1.Capability(capability))
		}
		for _, capability := range wanted.Capabilities.Drop {
			security.Capabilities.Drop = append(security.Capabilities.Drop, corev1.Capability(capability))
		}
	}
	if wanted.ProcMount != nil {
		security.ProcMount = new(corev1.ProcMountType(*wanted.ProcMount))
	}
	if profile := wanted.SeccompProfile; profile != nil {
		security.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileType(profile.Type), LocalhostProfile: profile.LocalhostProfile}
	}
	return security
}

func (p Plan) resources(wanted *jobconfig.Resources) (corev1.ResourceRequirements, error) {
	settings := p.Rules
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
			return nil, Mistakef("resources.%s.%s %q is not a quantity", kind, name, value)
		}
		list[name] = quantity
	}
	return list, nil
}

// environment returns the task's environment. Keptn's own variables come last and so take precedence, as in the
// job-executor-service. Secrets are those that do not exist yet and become variables as a whole.
func (p Plan) environment(ctx context.Context, namespace string, task jobconfig.Task, later bool, wrong *mistakes) (
	environment []corev1.EnvVar, secrets []corev1.EnvFromSource, err error,
) {
	for _, variable := range task.Env {
		if source := keyOf(variable); source != nil {
			if err := wrong.add(p.checkKey(ctx, namespace, variable, later)); err != nil {
				return nil, nil, err
			}
			environment = append(environment, corev1.EnvVar{Name: variable.Name, ValueFrom: source})
		}
		switch variable.ValueFrom {
		case jobconfig.ValueFromString:
			environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: variable.Value})
		case jobconfig.ValueFromEvent:
			value, err := variable.EventValue(p.Envelope)
			if err != nil {
				_ = wrong.add(Mistake{err}) // it is one
			}
			environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: literal(value)})
		case jobconfig.ValueFromSecret:
			secret := corev1.LocalObjectReference{Name: variable.Name}
			found, err := p.secret(ctx, namespace, variable.Name, later)
			if err != nil {
				if err := wrong.add(fmt.Errorf("could not add env with name %s: %w", variable.Name, err)); err != nil {
					return nil, nil, err
				}
				continue
			}
			if found == nil { // its keys are unknown yet
				secrets = append(secrets, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: secret}})
				continue
			}
			for _, key := range found.Keys {
				environment = append(environment, corev1.EnvVar{Name: key, ValueFrom: &corev1.EnvVarSource{
					SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: secret, Key: key},
				}})
			}
		}
	}
	for _, variable := range []corev1.EnvVar{
		{Name: "KEPTN_PROJECT", Value: p.Task.Project},
		{Name: "KEPTN_STAGE", Value: p.Task.Stage},
		{Name: "KEPTN_SERVICE", Value: p.Task.Service},
	} {
		environment = append(environment, corev1.EnvVar{Name: variable.Name, Value: literal(variable.Value)})
	}
	for _, label := range slices.Sorted(maps.Keys(p.Task.Labels)) {
		name := "LABELS_" + strings.ToUpper(strings.NewReplacer("-", "_", " ", "_").Replace(label))
		if len(validation.IsRelaxedEnvVarName(name)) > 0 {
			p.Log.WarnContext(ctx, "skipping label: not a valid environment variable name", "label", label, "task", task.Name)
			continue
		}
		environment = append(environment, corev1.EnvVar{Name: name, Value: literal(p.Task.Labels[label])})
	}
	return environment, secrets, nil
}

// checkKey checks that the Secret of a variable exists and has the key. The executor may not read ConfigMaps.
func (p Plan) checkKey(ctx context.Context, namespace string, variable jobconfig.Env, later bool) error {
	ref := variable.SecretKeyRef
	if ref == nil {
		return nil
	}
	found, err := p.secret(ctx, namespace, ref.Name, later)
	if err != nil {
		return fmt.Errorf("could not add env with name %s: %w", variable.Name, err)
	}
	if !later && !slices.Contains(found.Keys, ref.Key) {
		return Mistakef("could not add env with name %s: Secret %s in namespace %q has no key %s", variable.Name, ref.Name, namespace, ref.Key)
	}
	return nil
}

// keyOf returns the key that a variable references, nil if none.
func keyOf(variable jobconfig.Env) *corev1.EnvVarSource {
	switch {
	case variable.SecretKeyRef != nil:
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: variable.SecretKeyRef.Name}, Key: variable.SecretKeyRef.Key,
		}}
	case variable.ConfigMapKeyRef != nil:
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: variable.ConfigMapKeyRef.Name}, Key: variable.ConfigMapKeyRef.Key,
		}}
	}
	return nil
}

// literal is a text of an event as a variable's value: Kubernetes would put the values of
// other variables, Secrets among them, in place of $(NAME).
func literal(text string) string { return strings.ReplaceAll(text, "$", "$$") }
