package jobconfig

import (
	"math"
	"path"
	"strings"

	"github.com/distribution/reference"
	"go.yaml.in/yaml/v4"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// reservedPrefix is that of the annotations by which Jobs are kept account of.
const reservedPrefix = "job-executor.github.io/"

// decoder reads a whole file into a Config.
type decoder struct {
	reader
	config *Config
	// tasks and patternsSize are counted over the whole file.
	tasks, patternsSize int
}

func (config *Config) read(root *yaml.Node) {
	decoder := &decoder{config: config}
	top := value{node: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	if root != nil {
		top.node = root
	}
	if decoder.isVersion(top) {
		decoder.object(top, fields{
			"apiVersion": func(value) {},
			"actions": func(at value) {
				decoder.list(at, func(at value) { config.Actions = append(config.Actions, decoder.action(at)) })
			},
		})
	}
	config.Mistakes = append(config.Mistakes, decoder.mistakes...).sorted()
	config.Warnings = decoder.warnings.sorted()
}

// isVersion says whether the file has the right version: without it nothing else means
// anything.
func (decoder *decoder) isVersion(top value) bool {
	if top.node.Kind != yaml.MappingNode && !top.isNull() {
		decoder.wrong(top, "it must be a map that begins with apiVersion: %s, not %s", APIVersion, top.found())
		return false
	}
	version := value{}
	for index := 0; index+1 < len(top.node.Content); index += 2 {
		if key := top.node.Content[index]; key.Value == "apiVersion" {
			version = top.member(key.Value, top.node.Content[index+1])
		}
	}
	switch {
	case version.node == nil || version.isNull():
		decoder.wrong(top, "apiVersion must be specified: begin the file with apiVersion: %s", APIVersion)
	case version.node.Value == "v1":
		decoder.wrong(version, "v1 is not supported, use %s: there cmd is a list, as [jmeter, -n], and a task's env names what it needs of the event", APIVersion)
	case version.node.Value != APIVersion:
		decoder.wrong(version, "%s is not supported, use %s", cut(version.node.Value), APIVersion)
	default:
		return true
	}
	return false
}

// action reads an action with its own mistakes. Its short form has one event, and the
// keys of its one task at the action itself.
func (decoder *decoder) action(at value) Action {
	before := decoder.mistakes
	decoder.mistakes = nil
	defer func() { decoder.mistakes = before }()
	var action Action
	var short Task
	var shortKeys []value
	var event, events, tasks value
	known := fields{
		"name":   func(at value) { action.Name = decoder.text(at) },
		"silent": func(at value) { action.Silent = isTrue(decoder.boolean(at)) },
		"event": func(at value) {
			event = at
			made := Event{}
			decoder.eventName(at, &made)
			action.Events = append(action.Events, made)
		},
		"events": func(at value) {
			events = at
			decoder.list(at, func(at value) { action.Events = append(action.Events, decoder.event(at)) })
		},
		"tasks": func(at value) {
			tasks = at
			decoder.list(at, func(at value) { action.Tasks = append(action.Tasks, decoder.task(at)) })
		},
	}
	for name, read := range decoder.taskFields(&short) {
		if known[name] == nil {
			known[name] = func(at value) {
				shortKeys = append(shortKeys, at)
				read(at)
			}
		}
	}
	decoder.object(at, known)
	if event.node != nil && events.node != nil {
		decoder.wrong(event, "can't stand beside events: write it as one of them, {name: …}")
	}
	switch {
	case len(shortKeys) == 0:
	case tasks.node != nil:
		for _, key := range shortKeys {
			decoder.wrong(key, "belongs to a task: write it below tasks, or all keys of the one task at the action")
		}
	default:
		short.Name = action.Name
		decoder.check(at, &short)
		action.Tasks = append(action.Tasks, short)
	}
	action.Mistakes = decoder.mistakes.sorted()
	for _, mistake := range action.Mistakes {
		// A key that is not known may have been meant for its events.
		inEvents := strings.HasPrefix(mistake.Text, at.path+".event")
		action.unread = action.unread || inEvents || event.node == nil && events.node == nil
	}
	return action
}

func isTrue(truth *bool) bool { return truth != nil && *truth }

func (decoder *decoder) event(at value) Event {
	event := Event{}
	hasName := false
	decoder.object(at, fields{
		"name": func(at value) {
			hasName = true
			decoder.eventName(at, &event)
		},
		"jsonpath": func(at value) {
			decoder.object(at, fields{
				"property": func(at value) { event.JSONPath.Property = decoder.path(at) },
				"match":    func(at value) { event.JSONPath.Match = decoder.text(at) },
			})
		},
	})
	if !hasName {
		decoder.compile(at, &event) // that of nothing matches every event
	}
	return event
}

func (decoder *decoder) eventName(at value, event *Event) {
	event.Name = decoder.text(at)
	decoder.compile(at, event)
}

func (decoder *decoder) compile(at value, event *Event) {
	pattern, size, err := compile(event.Name)
	decoder.patternsSize += size
	switch {
	case err != nil:
		decoder.wrong(at, "%q is no regular expression: %s", cut(event.Name), err)
	case decoder.patternsSize > maxPatternsSize:
		decoder.wrong(at, "is too much: the names of all events together are too large")
	default:
		event.pattern = pattern
	}
}

// path reads a JSONPath.
func (decoder *decoder) path(at value) string {
	text := decoder.text(at)
	if text == "" {
		return ""
	}
	if err := checkPath(text); err != nil {
		decoder.wrong(at, "%s", err)
	}
	return text
}

func (decoder *decoder) task(at value) Task {
	var task Task
	known := decoder.taskFields(&task)
	decoder.object(at, known)
	decoder.check(at, &task)
	return task
}

// maxSeconds is what Kubernetes takes for a time.
const maxSeconds = math.MaxInt32

func (decoder *decoder) taskFields(task *Task) fields {
	return fields{
		"name":            func(at value) { task.Name = decoder.text(at) },
		"files":           func(at value) { decoder.list(at, func(at value) { task.Files = append(task.Files, decoder.file(at)) }) },
		"image":           func(at value) { task.Image = decoder.image(at) },
		"imagePullPolicy": func(at value) { task.ImagePullPolicy = decoder.oneOf(at, "Always", "IfNotPresent", "Never") },
		"cmd":             func(at value) { task.Cmd = decoder.words(at) },
		"args":            func(at value) { task.Args = decoder.words(at) },
		"workingDir":      func(at value) { task.WorkingDir = decoder.text(at) },
		"env":             func(at value) { decoder.list(at, func(at value) { task.Env = append(task.Env, decoder.env(at)) }) },
		"resources": func(at value) {
			if at.isNull() {
				return
			}
			task.Resources = &Resources{}
			decoder.object(at, fields{
				"limits":   func(at value) { task.Resources.Limits = decoder.resources(at) },
				"requests": func(at value) { task.Resources.Requests = decoder.resources(at) },
			})
		},
		"maxPollDuration": func(at value) { task.MaxPollDuration = decoder.integer(at, 1, maxSeconds) },
		"namespace": func(at value) {
			task.Namespace = decoder.named(at, "a namespace", validation.IsDNS1123Label)
		},
		"ttlSecondsAfterFinished": func(at value) {
			if seconds := decoder.integer(at, math.MinInt32, maxSeconds); seconds != nil {
				task.TTLSecondsAfterFinished = new(int32(*seconds))
			}
		},
		"securityContext": func(at value) { decoder.securityContext(at, &task.SecurityContext) },
		"serviceAccount": func(at value) {
			if !at.isNull() {
				task.ServiceAccount = new(decoder.named(at, "a service account", validation.IsDNS1123Subdomain))
			}
		},
		"annotations": func(at value) { task.Annotations = decoder.annotations(at) },
	}
}

// check says what is missing in a task.
func (decoder *decoder) check(at value, task *Task) {
	if decoder.tasks++; decoder.tasks == maxTasks+1 {
		decoder.wrong(at, "is too much: the file has more than %d tasks", maxTasks)
	}
	if isMap := at.node.Kind == yaml.MappingNode || at.isNull(); isMap && task.Image == "" && !decoder.hasMistake(at.path+".image") {
		decoder.wrong(at, "needs an image: image must be specified")
	}
}

func (decoder *decoder) hasMistake(path string) bool {
	for _, mistake := range decoder.mistakes {
		if strings.HasPrefix(mistake.Text, path+" ") {
			return true
		}
	}
	return false
}

// file reads the path of a file or folder; that of nothing, and /, are all files.
func (decoder *decoder) file(at value) string {
	name := decoder.text(at)
	switch clean := path.Clean("/" + name); {
	case strings.Contains("/"+name+"/", "/../"):
		decoder.wrong(at, "%q has .. in it: files are named by their path in the project's repository", cut(name))
	case strings.ContainsAny(name, "~\\\x00"):
		decoder.wrong(at, "%q has a character that Keptn takes in no path: ~ or \\", cut(name))
	case strings.ContainsAny(clean, "*?"):
		decoder.warn(at, "%q is taken as it is: there are no wildcards; name the folder to have all files in it", cut(name))
	}
	return name
}

func (decoder *decoder) image(at value) string {
	image := decoder.text(at)
	if image == "" {
		return ""
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		decoder.wrong(at, "%q is not the name of an image: %s", cut(image), err)
	}
	return image
}

// named reads a name of something in Kubernetes; an empty one is that of the default.
func (decoder *decoder) named(at value, kind string, check func(string) []string) string {
	name := decoder.text(at)
	if name != "" && len(check(name)) > 0 {
		decoder.wrong(at, "%q is not the name of %s: it may have small letters, digits, and - between them", cut(name), kind)
	}
	return name
}

func (decoder *decoder) env(at value) Env {
	var env Env
	var name, form, text value
	decoder.object(at, fields{
		"name":      func(at value) { name, env.Name = at, decoder.text(at) },
		"value":     func(at value) { text, env.Value = at, decoder.text(at) },
		"valueFrom": func(at value) { env.ValueFrom = decoder.oneOf(at, ValueFromEvent, ValueFromSecret, ValueFromString) },
		"as":        func(at value) { form, env.As = at, strings.ToLower(decoder.text(at)) },
	})
	switch env.As {
	case "", AsString, AsJSON, AsYAML:
	default:
		decoder.wrong(form, "%q must be one of %s, %s, %s", cut(env.As), AsString, AsJSON, AsYAML)
	}
	switch {
	case env.Name == "":
		decoder.wrong(at, "needs a name")
	case env.ValueFrom == "" && !decoder.hasMistake(at.path+".valueFrom"):
		decoder.wrong(at, "needs valueFrom: one of %s, %s, %s", ValueFromEvent, ValueFromSecret, ValueFromString)
	case env.ValueFrom == ValueFromSecret:
		if len(validation.IsDNS1123Subdomain(env.Name)) > 0 {
			decoder.wrong(name, "%q is not the name of a Secret: it may have small letters, digits, and - between them", cut(env.Name))
		}
	case len(validation.IsRelaxedEnvVarName(env.Name)) > 0:
		decoder.wrong(name, "%q is not the name of a variable: it may have letters, digits, and signs of ASCII but =", cut(env.Name))
	}
	if env.ValueFrom == ValueFromEvent {
		if text.node == nil {
			text = at
		}
		if env.Value == "" {
			decoder.wrong(at, "needs a value: a JSONPath, as $.data.service")
		} else if err := checkPath(env.Value); err != nil {
			decoder.wrong(text, "%s", err)
		}
	}
	return env
}

func (decoder *decoder) resources(at value) (list ResourceList) {
	quantity := func(at value) string {
		text := decoder.text(at)
		if text == "" {
			return ""
		}
		if parsed, err := resource.ParseQuantity(text); err != nil || parsed.Sign() < 0 {
			decoder.wrong(at, "%q is no quantity: write it as 500m, 2, 128Mi or 1Gi", cut(text))
		}
		return text
	}
	decoder.object(at, fields{
		"cpu":    func(at value) { list.CPU = quantity(at) },
		"memory": func(at value) { list.Memory = quantity(at) },
	})
	return list
}

func (decoder *decoder) securityContext(at value, context *SecurityContext) {
	decoder.object(at, fields{
		"capabilities": func(at value) {
			if at.isNull() {
				return
			}
			context.Capabilities = &Capabilities{}
			decoder.object(at, fields{
				"add":  func(at value) { context.Capabilities.Add = decoder.texts(at) },
				"drop": func(at value) { context.Capabilities.Drop = decoder.texts(at) },
			})
		},
		"privileged":               func(at value) { context.Privileged = decoder.boolean(at) },
		"runAsUser":                func(at value) { context.RunAsUser = decoder.integer(at, 0, math.MaxInt32) },
		"runAsGroup":               func(at value) { context.RunAsGroup = decoder.integer(at, 0, math.MaxInt32) },
		"runAsNonRoot":             func(at value) { context.RunAsNonRoot = decoder.boolean(at) },
		"readOnlyRootFilesystem":   func(at value) { context.ReadOnlyRootFilesystem = decoder.boolean(at) },
		"allowPrivilegeEscalation": func(at value) { context.AllowPrivilegeEscalation = decoder.boolean(at) },
		"procMount": func(at value) {
			if mount := decoder.oneOf(at, "Default", "Unmasked"); mount != "" {
				context.ProcMount = &mount
			}
		},
		"seccompProfile": func(at value) { context.SeccompProfile = decoder.seccompProfile(at) },
	})
	if context.RunAsUser != nil && *context.RunAsUser == 0 && (context.RunAsNonRoot == nil || *context.RunAsNonRoot) {
		decoder.wrong(at, "runAsUser 0 needs runAsNonRoot: false")
	}
	if isTrue(context.Privileged) && context.AllowPrivilegeEscalation != nil && !*context.AllowPrivilegeEscalation {
		decoder.wrong(at, "privileged: true needs allowPrivilegeEscalation: true")
	}
}

func (decoder *decoder) seccompProfile(at value) *SeccompProfile {
	if at.isNull() {
		return nil
	}
	profile := &SeccompProfile{}
	decoder.object(at, fields{
		"type": func(at value) { profile.Type = decoder.oneOf(at, "RuntimeDefault", "Localhost", "Unconfined") },
		"localhostProfile": func(at value) {
			if text := decoder.text(at); text != "" {
				profile.LocalhostProfile = &text
			}
		},
	})
	switch {
	case profile.Type == "" && !decoder.hasMistake(at.path+".type"):
		decoder.wrong(at, "needs a type")
	case (profile.Type == "Localhost") != (profile.LocalhostProfile != nil):
		decoder.wrong(at, "needs localhostProfile with type Localhost, and only with it")
	}
	return profile
}

// annotations reads a map, or a list of maps with one member each, which the
// job-executor-service documents (FEATURES.md) and never took.
func (decoder *decoder) annotations(at value) map[string]string {
	annotations := map[string]string{}
	read := func(at value) {
		if at.node.Kind != yaml.MappingNode {
			if !at.isNull() {
				decoder.wrong(at, "must be a map, not %s", at.found())
			}
			return
		}
		for index := 0; index+1 < len(at.node.Content); index += 2 {
			key := follow(at.node.Content[index])
			member := at.member(key.Value, at.node.Content[index+1])
			_, twice := annotations[key.Value]
			switch {
			case decoder.isTooMuch(member):
				return
			case strings.HasPrefix(strings.ToLower(key.Value), reservedPrefix):
				decoder.wrong(value{key, member.path}, "is reserved: Job Executor keeps account of its Jobs by annotations below %s", reservedPrefix)
			case len(validation.IsQualifiedName(strings.ToLower(key.Value))) > 0:
				decoder.wrong(value{key, member.path}, "is not the name of an annotation, as example.com/team")
			case twice:
				decoder.wrong(value{key, member.path}, "is given twice")
			}
			annotations[key.Value] = decoder.text(member)
		}
	}
	if at.node.Kind == yaml.SequenceNode {
		decoder.list(at, read)
	} else {
		read(at)
	}
	return annotations
}
