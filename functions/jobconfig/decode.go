package jobconfig

import (
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"go.yaml.in/yaml/v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/job-executor/job-executor/functions/jobconfig/expression"
	"github.com/job-executor/job-executor/functions/jobconfig/reader"
	"github.com/job-executor/job-executor/functions/jobconfig/scheduling"
)

// reservedPrefix is that of the annotations by which Jobs are kept account of.
const reservedPrefix = "job-executor.github.io/"

const (
	// maxTasks bounds the tasks of a file.
	maxTasks = 1000
	// maxPatternsSize bounds the sizes of all regular expressions of a file.
	maxPatternsSize = 50000
)

// decoder reads a whole file into a Config.
type decoder struct {
	reader.Reader
	// tasks and patternsSize are counted over the whole file.
	tasks, patternsSize int
}

func (config *Config) read(root *yaml.Node) {
	decoder := &decoder{}
	top := reader.Value{Node: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	if root != nil {
		top.Node = root
	}
	if decoder.isVersion(top) {
		decoder.Object(top, reader.Fields{
			"apiVersion": func(reader.Value) {},
			"actions": func(at reader.Value) {
				decoder.List(at, func(at reader.Value) { config.Actions = append(config.Actions, decoder.action(at)) })
			},
		})
	}
	config.Mistakes = Mistakes(decoder.Mistakes).sorted()
	config.Warnings = Mistakes(decoder.Warnings).sorted()
}

// isVersion says whether the file has the right version: without it nothing else means
// anything.
func (decoder *decoder) isVersion(top reader.Value) bool {
	if top.Node.Kind != yaml.MappingNode && !top.IsNull() {
		decoder.Wrong(top, "it must be a map that begins with apiVersion: %s, not %s", APIVersion, top.Found())
		return false
	}
	version := reader.Value{}
	for index := 0; index+1 < len(top.Node.Content); index += 2 {
		if key := top.Node.Content[index]; key.Value == "apiVersion" {
			version = top.Member(key.Value, top.Node.Content[index+1])
		}
	}
	switch {
	case version.Node == nil || version.IsNull():
		decoder.Wrong(top, "apiVersion must be specified: begin the file with apiVersion: %s", APIVersion)
	case version.Node.Value == "v1":
		decoder.Wrong(version, "v1 is not supported, use %s; in %s, cmd is a list of the program and its arguments, such as [jmeter, -n], or cmd is the program and args the list", APIVersion, APIVersion)
	case version.Node.Value != APIVersion:
		decoder.Wrong(version, "%s is not supported, use %s", reader.Cut(version.Node.Value), APIVersion)
	default:
		return true
	}
	return false
}

// action reads an action with its own mistakes. Its short form has one event, and the
// keys of its one task at the action itself.
func (decoder *decoder) action(at reader.Value) Action {
	before := decoder.Mistakes
	decoder.Mistakes = nil
	defer func() { decoder.Mistakes = before }()
	var action Action
	var short Task
	var shortKeys []reader.Value
	var event, events, tasks reader.Value
	known := reader.Fields{
		"name":     func(at reader.Value) { action.Name = decoder.Text(at) },
		"silent":   func(at reader.Value) { action.Silent = isTrue(decoder.Boolean(at)) },
		"parallel": func(at reader.Value) { action.Parallel = isTrue(decoder.Boolean(at)) },
		"event": func(at reader.Value) {
			event = at
			made := Event{}
			decoder.eventName(at, &made)
			action.Events = append(action.Events, made)
		},
		"events": func(at reader.Value) {
			events = at
			decoder.List(at, func(at reader.Value) { action.Events = append(action.Events, decoder.event(at)) })
		},
		"tasks": func(at reader.Value) {
			tasks = at
			decoder.List(at, func(at reader.Value) { action.Tasks = append(action.Tasks, decoder.task(at)) })
		},
	}
	for name, read := range decoder.taskFields(&short) {
		if known[name] == nil {
			known[name] = func(at reader.Value) {
				shortKeys = append(shortKeys, at)
				read(at)
			}
		}
	}
	decoder.Object(at, known)
	if event.Node != nil && events.Node != nil {
		decoder.Wrong(event, "can't stand beside events: write it as one of them, {name: …}")
	}
	switch {
	case len(shortKeys) == 0 && len(action.Tasks) > 0 && action.Name == "":
		decoder.Warn(at, "has no name; messages and labels of its Jobs would be easier to find with one")
	case len(shortKeys) == 0:
	case tasks.Node != nil:
		for _, key := range shortKeys {
			decoder.Wrong(key, "belongs to a task: write it below tasks, or all keys of the one task at the action")
		}
	default:
		short.Name, short.line = action.Name, at.Node.Line
		decoder.check(at, &short)
		action.Tasks = append(action.Tasks, short)
	}
	action.Mistakes = Mistakes(decoder.Mistakes).sorted()
	// A key that is not known may have been meant for its events.
	hasEvents := event.Node != nil || events.Node != nil
	action.unread = slices.ContainsFunc(action.Mistakes, func(mistake Mistake) bool {
		return !hasEvents || strings.HasPrefix(mistake.Path, at.Path+".event")
	})
	return action
}

func isTrue(truth *bool) bool { return truth != nil && *truth }

func (decoder *decoder) event(at reader.Value) Event {
	event := Event{}
	hasName := false
	decoder.Object(at, reader.Fields{
		"name": func(at reader.Value) {
			hasName = true
			decoder.eventName(at, &event)
		},
		"jsonpath": func(at reader.Value) {
			decoder.Object(at, reader.Fields{
				"property": func(at reader.Value) { event.JSONPath.Property = decoder.path(at) },
				"match":    func(at reader.Value) { event.JSONPath.Match = decoder.Text(at) },
			})
		},
	})
	if !hasName {
		decoder.compile(at, &event) // that of nothing matches every event
	}
	return event
}

func (decoder *decoder) eventName(at reader.Value, event *Event) {
	event.Name = decoder.Text(at)
	decoder.compile(at, event)
	decoder.warnOfEvent(at, event)
}

// phases are the last parts of the types of Keptn's events.
var phases = []string{"triggered", "started", "finished", "status.changed"}

// warnOfEvent warns of a pattern that matches other events than were meant: its task's started and
// finished events, or those of a sequence.
func (decoder *decoder) warnOfEvent(at reader.Value, event *Event) {
	if event.pattern == nil || event.Name == "" {
		return
	}
	name := strings.Trim(event.Name, "^$")
	plain := strings.TrimPrefix(strings.ReplaceAll(name, `\.`, "."), "sh.keptn.event.")
	switch parts := strings.Split(plain, "."); {
	case strings.ContainsAny(plain, `*+?|[](){}\`):
	case !slices.ContainsFunc(phases, func(phase string) bool { return strings.HasSuffix(plain, phase) }):
		decoder.Warn(at, "%q also matches started and finished events; write sh.keptn.event.%s.triggered", reader.Cut(event.Name), parts[0])
	case len(parts) == 3 && strings.HasPrefix(name, "sh.keptn.event.") && parts[2] == "triggered":
		decoder.Warn(at, "%q is the event of sequence %s in stage %s, not of a task; tasks have sh.keptn.event.TASK.triggered", reader.Cut(event.Name), parts[1], parts[0])
	}
}

func (decoder *decoder) compile(at reader.Value, event *Event) {
	pattern, size, err := expression.Compile(event.Name)
	decoder.patternsSize += size
	switch {
	case err != nil:
		advice := ""
		if strings.HasPrefix(event.Name, "*") {
			advice = "; write .* for any text, or the whole event type"
		}
		decoder.Wrong(at, "%q is not a regular expression: %s%s", reader.Cut(event.Name), err, advice)
	case decoder.patternsSize > maxPatternsSize:
		decoder.Wrong(at, "is too much: the names of all events together are too large")
	default:
		event.pattern = pattern
	}
}

// path reads a JSONPath.
func (decoder *decoder) path(at reader.Value) string {
	text := strings.TrimSpace(decoder.Text(at))
	if text != "" {
		decoder.checkPath(at, text)
	}
	return text
}

func (decoder *decoder) checkPath(at reader.Value, text string) {
	if err := expression.CheckPath(text); err != nil {
		decoder.Wrong(at, "%s", err)
	}
}

func (decoder *decoder) task(at reader.Value) Task {
	task := Task{line: at.Node.Line}
	decoder.Object(at, decoder.taskFields(&task))
	decoder.check(at, &task)
	return task
}

// maxRetries bounds how often a task is tried again.
const maxRetries = 10

// maxSeconds is what Kubernetes takes for a time.
const maxSeconds = math.MaxInt32

func (decoder *decoder) taskFields(task *Task) reader.Fields {
	return reader.Fields{
		"name": func(at reader.Value) { task.Name = decoder.Text(at) },
		"files": func(at reader.Value) {
			decoder.List(at, func(at reader.Value) { task.Files = append(task.Files, decoder.file(at)) })
		},
		"image":           func(at reader.Value) { task.Image = decoder.image(at) },
		"imagePullPolicy": func(at reader.Value) { task.ImagePullPolicy = decoder.OneOf(at, "Always", "IfNotPresent", "Never") },
		"cmd":             func(at reader.Value) { task.Cmd = decoder.Words(at) },
		"args":            func(at reader.Value) { task.Args = decoder.Words(at) },
		"workingDir":      func(at reader.Value) { task.WorkingDir = decoder.Text(at) },
		"env": func(at reader.Value) {
			decoder.List(at, func(at reader.Value) { task.Env = append(task.Env, decoder.env(at)) })
		},
		"resources": func(at reader.Value) {
			if at.IsNull() {
				return
			}
			task.Resources = &Resources{}
			decoder.Object(at, reader.Fields{
				"limits":   func(at reader.Value) { task.Resources.Limits = decoder.resources(at) },
				"requests": func(at reader.Value) { task.Resources.Requests = decoder.resources(at) },
			})
			decoder.compareResources(at, task.Resources)
		},
		"maxPollDuration": func(at reader.Value) { task.MaxPollDuration = decoder.Integer(at, 1, maxSeconds) },
		"namespace":       func(at reader.Value) { task.Namespace = decoder.named(at, "a namespace", validation.IsDNS1123Label) },
		"ttlSecondsAfterFinished": func(at reader.Value) {
			if seconds := decoder.Integer(at, math.MinInt32, maxSeconds); seconds != nil {
				task.TTLSecondsAfterFinished = new(int32(*seconds)) //nolint:gosec // within the limits
			}
		},
		"securityContext": func(at reader.Value) { decoder.securityContext(at, &task.SecurityContext) },
		"serviceAccount": func(at reader.Value) {
			if !at.IsNull() {
				task.ServiceAccount = new(decoder.named(at, "a service account", validation.IsDNS1123Subdomain))
			}
		},
		"annotations": func(at reader.Value) { task.Annotations = decoder.annotations(at) },
		"labels":      func(at reader.Value) { task.Labels = decoder.labels(at, reservedLabels()...) },
		"imagePullSecrets": func(at reader.Value) {
			decoder.List(at, func(at reader.Value) {
				task.ImagePullSecrets = append(task.ImagePullSecrets, decoder.pullSecret(at))
			})
		},
		"nodeSelector": func(at reader.Value) { task.NodeSelector = decoder.labels(at) },
		"tolerations": func(at reader.Value) {
			decoder.List(at, func(at reader.Value) {
				var toleration corev1.Toleration
				if decoder.Strict(at, &toleration) {
					decoder.refused(at, scheduling.Toleration(&toleration, nil))
				}
				task.Tolerations = append(task.Tolerations, toleration)
			})
		},
		"affinity": func(at reader.Value) {
			if decoder.Strict(at, &task.Affinity) && task.Affinity != nil {
				decoder.refused(at, scheduling.Affinity(task.Affinity, nil))
			}
		},
		"volumes": func(at reader.Value) {
			paths := map[string]bool{}
			decoder.List(at, func(at reader.Value) {
				volume := decoder.volume(at)
				if clean := path.Clean(volume.MountPath); volume.MountPath != "" && paths[clean] {
					decoder.Wrong(at, "is mounted at %s, like another volume before it", clean)
				} else {
					paths[clean] = true
				}
				task.Volumes = append(task.Volumes, volume)
			})
		},
		"retries":    func(at reader.Value) { task.Retries = decoder.Integer(at, 0, maxRetries) },
		"volumeSize": func(at reader.Value) { task.VolumeSize = decoder.quantity(at) },
	}
}

// check says what is missing in a task.
func (decoder *decoder) check(at reader.Value, task *Task) {
	if decoder.tasks++; decoder.tasks == maxTasks+1 {
		decoder.Wrong(at, "is too much: the file has more than %d tasks", maxTasks)
	}
	if isMap := at.Node.Kind == yaml.MappingNode || at.IsNull(); isMap && task.Image == "" && !decoder.hasMistake(at.Path+".image") {
		decoder.Wrong(at, "needs an image: image must be specified")
	}
}

func (decoder *decoder) hasMistake(path string) bool {
	return slices.ContainsFunc(decoder.Mistakes, func(mistake Mistake) bool { return mistake.Path == path })
}

// file reads the path of a file or folder; that of nothing, and /, are all files.
func (decoder *decoder) file(at reader.Value) string {
	name := decoder.Text(at)
	switch clean := path.Clean("/" + name); {
	case strings.Contains("/"+name+"/", "/../"):
		decoder.Wrong(at, "%q has .. in it: files are named by their path in the project's repository", reader.Cut(name))
	case strings.ContainsAny(name, "~\\\x00"):
		decoder.Wrong(at, "%q has a character that Keptn takes in no path: ~ or \\", reader.Cut(name))
	case strings.ContainsAny(clean, "*?"):
		decoder.Warn(at, "%q is taken as it is: there are no wildcards; name the folder to have all files in it", reader.Cut(name))
	}
	return name
}

func (decoder *decoder) image(at reader.Value) string {
	image := decoder.Text(at)
	if _, err := reference.ParseNormalizedNamed(image); err != nil && image != "" {
		decoder.Wrong(at, "%q is not the name of an image: %s", reader.Cut(image), err)
	}
	return image
}

// named reads a name of something in Kubernetes; an empty one is that of the default.
func (decoder *decoder) named(at reader.Value, kind string, check func(string) []string) string {
	name := decoder.Text(at)
	if name != "" {
		decoder.checkName(at, name, kind, check)
	}
	return name
}

func (decoder *decoder) checkName(at reader.Value, name, kind string, check func(string) []string) {
	if len(check(name)) > 0 {
		decoder.Wrong(at, "%q is not the name of %s: it may have small letters, digits, and - between them", reader.Cut(name), kind)
	}
}

func (decoder *decoder) env(at reader.Value) Env {
	var env Env
	var name, form, text reader.Value
	decoder.Object(at, reader.Fields{
		"name":  func(at reader.Value) { name, env.Name = at, decoder.Text(at) },
		"value": func(at reader.Value) { text, env.Value = at, decoder.Text(at) },
		"valueFrom": func(at reader.Value) {
			if at.Node.Kind == yaml.MappingNode && len(at.Node.Content) > 0 {
				decoder.Wrong(at, "must be one of %s, %s, %s; put %s next to name, without valueFrom", ValueFromEvent, ValueFromSecret, ValueFromString, reader.Cut(at.Node.Content[0].Value))
				return
			}
			env.ValueFrom = decoder.OneOf(at, ValueFromEvent, ValueFromSecret, ValueFromString)
		},
		"as": func(at reader.Value) { form, env.As = at, strings.ToLower(decoder.Text(at)) },

		"secretKeyRef":    func(at reader.Value) { env.SecretKeyRef = decoder.keyRef(at, "a Secret") },
		"configMapKeyRef": func(at reader.Value) { env.ConfigMapKeyRef = decoder.keyRef(at, "a ConfigMap") },
	})
	sources := []bool{env.ValueFrom != "", env.SecretKeyRef != nil, env.ConfigMapKeyRef != nil}
	given := len(slices.DeleteFunc(sources, func(given bool) bool { return !given }))
	switch env.As {
	case "", AsString, AsJSON, AsYAML:
	default:
		decoder.Wrong(form, "%q must be one of %s, %s, %s", reader.Cut(env.As), AsString, AsJSON, AsYAML)
	}
	switch {
	case env.Name == "":
		decoder.Wrong(at, "needs a name")
	case given > 1:
		decoder.Wrong(at, "needs one of valueFrom, secretKeyRef and configMapKeyRef, not several")
	case given == 0 && !decoder.hasMistake(at.Path+".valueFrom"):
		advice := ""
		if text.Node != nil {
			advice = "; for a fixed text: valueFrom: " + ValueFromString
		}
		decoder.Wrong(at, "needs valueFrom: one of %s, %s, %s%s", ValueFromEvent, ValueFromSecret, ValueFromString, advice)
	case env.ValueFrom == ValueFromSecret:
		decoder.checkName(name, env.Name, "a Secret", validation.IsDNS1123Subdomain)
	case len(validation.IsRelaxedEnvVarName(env.Name)) > 0:
		decoder.Wrong(name, "%q is not the name of a variable: it may have letters, digits, and signs of ASCII but =", reader.Cut(env.Name))
	}
	if env.ValueFrom == ValueFromEvent {
		if text.Node == nil {
			text = at
		}
		if env.Value = strings.TrimSpace(env.Value); env.Value == "" {
			decoder.Wrong(at, "needs a value: a JSONPath, as $.data.service")
		} else {
			decoder.checkPath(text, env.Value)
		}
	}
	return env
}

func (decoder *decoder) resources(at reader.Value) (list ResourceList) {
	decoder.Object(at, reader.Fields{
		"cpu":    func(at reader.Value) { list.CPU = decoder.quantity(at) },
		"memory": func(at reader.Value) { list.Memory = decoder.quantity(at) },
	})
	return list
}

// refused adds what the API server would refuse.
func (decoder *decoder) refused(at reader.Value, wrong field.ErrorList) {
	for _, problem := range wrong {
		place := strings.Trim(strings.TrimPrefix(problem.Field, "<nil>"), ".")
		decoder.Wrong(at, "is refused by Kubernetes: %s: %s", place, problem.ErrorBody())
	}
}

// compareResources refuses requests above the limits, as the API server does.
func (decoder *decoder) compareResources(at reader.Value, wanted *Resources) {
	for name, pair := range map[string][2]string{
		"cpu": {wanted.Requests.CPU, wanted.Limits.CPU}, "memory": {wanted.Requests.Memory, wanted.Limits.Memory},
	} {
		request, requestErr := resource.ParseQuantity(pair[0])
		limit, limitErr := resource.ParseQuantity(pair[1])
		if requestErr == nil && limitErr == nil && request.Cmp(limit) > 0 {
			decoder.Wrong(at, "requests %s of %s, more than its limit of %s", pair[0], name, pair[1])
		}
	}
}

func (decoder *decoder) quantity(at reader.Value) string {
	text := decoder.Text(at)
	if parsed, err := resource.ParseQuantity(text); text != "" && (err != nil || parsed.Sign() < 0) {
		decoder.Wrong(at, "%q is no quantity: write it as 500m, 2, 128Mi or 1Gi", reader.Cut(text))
	}
	return text
}

func (decoder *decoder) securityContext(at reader.Value, context *SecurityContext) {
	decoder.Object(at, reader.Fields{
		"capabilities": func(at reader.Value) {
			if at.IsNull() {
				return
			}
			context.Capabilities = &Capabilities{}
			decoder.Object(at, reader.Fields{
				"add":  func(at reader.Value) { context.Capabilities.Add = decoder.Texts(at) },
				"drop": func(at reader.Value) { context.Capabilities.Drop = decoder.Texts(at) },
			})
		},
		"privileged":               func(at reader.Value) { context.Privileged = decoder.Boolean(at) },
		"runAsUser":                func(at reader.Value) { context.RunAsUser = decoder.Integer(at, 0, math.MaxInt32) },
		"runAsGroup":               func(at reader.Value) { context.RunAsGroup = decoder.Integer(at, 0, math.MaxInt32) },
		"runAsNonRoot":             func(at reader.Value) { context.RunAsNonRoot = decoder.Boolean(at) },
		"readOnlyRootFilesystem":   func(at reader.Value) { context.ReadOnlyRootFilesystem = decoder.Boolean(at) },
		"allowPrivilegeEscalation": func(at reader.Value) { context.AllowPrivilegeEscalation = decoder.Boolean(at) },
		"procMount": func(at reader.Value) {
			mount := decoder.OneOf(at, "Default", "Unmasked")
			if mount == "Unmasked" {
				decoder.Wrong(at, "Unmasked is refused by Kubernetes, as the pod would need hostUsers: false")
			}
			if mount != "" {
				context.ProcMount = &mount
			}
		},
		"seccompProfile": func(at reader.Value) { context.SeccompProfile = decoder.seccompProfile(at) },
	})
	if context.RunAsUser != nil && *context.RunAsUser == 0 && (context.RunAsNonRoot == nil || *context.RunAsNonRoot) {
		decoder.Wrong(at, "runAsUser 0 needs runAsNonRoot: false")
	}
	if capabilities := context.Capabilities; capabilities != nil && slices.Contains(capabilities.Add, "CAP_SYS_ADMIN") && !isTrue(context.AllowPrivilegeEscalation) {
		decoder.Wrong(at, "capability CAP_SYS_ADMIN is refused by Kubernetes without allowPrivilegeEscalation: true; capabilities are written without CAP_")
	}
	if isTrue(context.Privileged) && context.AllowPrivilegeEscalation != nil && !*context.AllowPrivilegeEscalation {
		decoder.Wrong(at, "privileged: true needs allowPrivilegeEscalation: true")
	}
}

func (decoder *decoder) seccompProfile(at reader.Value) *SeccompProfile {
	if at.IsNull() {
		return nil
	}
	profile := &SeccompProfile{}
	decoder.Object(at, reader.Fields{
		"type": func(at reader.Value) { profile.Type = decoder.OneOf(at, "RuntimeDefault", "Localhost", "Unconfined") },
		"localhostProfile": func(at reader.Value) {
			if text := decoder.Text(at); text != "" {
				profile.LocalhostProfile = &text
			}
		},
	})
	switch {
	case profile.Type == "" && !decoder.hasMistake(at.Path+".type"):
		decoder.Wrong(at, "needs a type")
	case (profile.Type == "Localhost") != (profile.LocalhostProfile != nil):
		decoder.Wrong(at, "needs localhostProfile with type Localhost, and only with it")
	}
	return profile
}

// annotations reads a map, or a list of maps with one member each, which the
// job-executor-service documents (FEATURES.md) and never took.
func (decoder *decoder) annotations(at reader.Value) map[string]string {
	return decoder.Pairs(at, func(name string) string {
		switch {
		case strings.HasPrefix(strings.ToLower(name), reservedPrefix):
			return "is reserved: Job Executor keeps account of its Jobs by annotations below " + reservedPrefix
		case len(validation.IsQualifiedName(strings.ToLower(name))) > 0:
			return "is not the name of an annotation, as example.com/team"
		}
		return ""
	})
}

// labels reads labels, or what selects by them. Those by which Jobs are found are
// reserved.
func (decoder *decoder) labels(at reader.Value, reserved ...string) map[string]string {
	labels := decoder.Pairs(at, func(name string) string {
		prefix, _, _ := strings.Cut(name, "/")
		switch {
		case slices.Contains(reserved, prefix), slices.Contains(reserved, name):
			return "is reserved: Jobs and their pods are found by it"
		case len(validation.IsQualifiedName(name)) > 0:
			return "is not the name of a label, as example.com/team"
		}
		return ""
	})
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if len(validation.IsValidLabelValue(labels[name])) > 0 {
			decoder.Wrong(at, "has %q for %s: a label may have 63 letters, digits, and - _ . between them", reader.Cut(labels[name]), name)
		}
	}
	return labels
}

// reservedLabels are those of Jobs, by their names or prefixes.
func reservedLabels() []string {
	return []string{"keptn.sh", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "job-executor.github.io", "batch.kubernetes.io", "job-name", "controller-uid"}
}

// required reads the name of something in Kubernetes that has to be given.
func (decoder *decoder) required(at reader.Value, kind string) string {
	name := decoder.named(at, kind, validation.IsDNS1123Subdomain)
	if name == "" && at.Node.Kind == yaml.ScalarNode {
		decoder.Wrong(at, "needs the name of %s", kind)
	}
	return name
}

// pullSecret reads a name, or as Kubernetes has it, {name: …}.
func (decoder *decoder) pullSecret(at reader.Value) (name string) {
	if at.Node.Kind != yaml.MappingNode {
		return decoder.required(at, "a Secret")
	}
	decoder.Object(at, reader.Fields{"name": func(at reader.Value) { name = decoder.required(at, "a Secret") }})
	return name
}

func (decoder *decoder) keyRef(at reader.Value, kind string) *KeyRef {
	ref := &KeyRef{}
	decoder.Object(at, reader.Fields{
		"name": func(at reader.Value) { ref.Name = decoder.required(at, kind) },
		"key":  func(at reader.Value) { ref.Key = decoder.Text(at) },
	})
	switch {
	case ref.Name == "" || ref.Key == "":
		decoder.Wrong(at, "needs a name and a key of %s", kind)
	case len(validation.IsConfigMapKey(ref.Key)) > 0:
		decoder.Wrong(at, "has key %q: a key may contain letters, digits, -, _ and .", reader.Cut(ref.Key))
	}
	return ref
}

func (decoder *decoder) volume(at reader.Value) (volume Volume) {
	decoder.Object(at, reader.Fields{
		"claim":     func(at reader.Value) { volume.Claim = decoder.required(at, "a PersistentVolumeClaim") },
		"mountPath": func(at reader.Value) { volume.MountPath = decoder.Text(at) },
		"subPath":   func(at reader.Value) { volume.SubPath = decoder.Text(at) },
		"readOnly":  func(at reader.Value) { volume.ReadOnly = isTrue(decoder.Boolean(at)) },
	})
	switch mount := path.Clean(volume.MountPath); {
	case volume.Claim == "" || !path.IsAbs(volume.MountPath) || strings.Contains(mount, ":"):
		decoder.Wrong(at, "needs a claim, and a mountPath as /data")
	case mount == "/" || mount == "/keptn":
		decoder.Wrong(at, "can't be at %s", mount)
	case strings.HasPrefix(volume.SubPath, "/") || strings.Contains("/"+volume.SubPath+"/", "/../"):
		decoder.Wrong(at, "has a subPath that leaves the volume: %q", reader.Cut(volume.SubPath))
	}
	return volume
}
