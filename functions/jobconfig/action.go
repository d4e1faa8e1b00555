package jobconfig

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/job-executor/job-executor/functions/jobconfig/expression"
	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

// shortAction is an action as written. The short form has one event, and the keys of one task.
type shortAction struct {
	Action

	event Event
	task  Task
	// hasEvents is true if the action has a key for its events.
	hasEvents bool
}

func longFields() []property[shortAction] {
	return []property[shortAction]{
		key("name", "The action's name in messages, and in the short form the task's.", text(), func(a *shortAction) *string { return &a.Name }, example("Run the load tests")),
		key("silent", "Runs without a started and a finished event.", toggle(), func(a *shortAction) *bool { return &a.Silent }),
		key("parallel", "Runs all its tasks at the same time, each to its end. (Extension.)", toggle(), func(a *shortAction) *bool { return &a.Parallel }),
		key("event", "The event for which it runs: a regular expression, as events[].name. (Extension.)", eventName(), func(a *shortAction) *Event { return &a.event },
			example("sh.keptn.event.test.triggered")),
		key("events", "The events for which it runs: any of these.", list(defined("event", event())), func(a *shortAction) *[]Event { return &a.Events }),
		key("tasks", "The tasks that it runs: one after the other until one fails, or all at the same time if it is parallel.", list(defined("task", task())),
			func(a *shortAction) *[]Task { return &a.Tasks }),
	}
}

// shortFields are the keys of a task that an action may have. The task's name is the action's.
func shortFields() (short []property[shortAction]) {
	for _, of := range taskFields() {
		if of.name != "name" {
			reference := func() schema { return schema{"$ref": "#/$defs/task/properties/" + of.name} }
			short = append(short, property[shortAction]{of.name, reference, func(d *decoder, at reader.Value, into *shortAction) { of.read(d, at, &into.task) }})
		}
	}
	return short
}

// action reads an action with its own mistakes.
func action() kind[Action] {
	fields, short := longFields(), shortFields()
	names := namesOf(short)
	check := func(d *decoder, at reader.Value, given members, read *shortAction) {
		d.checkAction(at, names, given, read)
	}
	of := object(slices.Concat(fields, short), check, func() schema {
		isShort := []schema{}
		for _, name := range names {
			isShort = append(isShort, schema{"required": []string{name}})
		}
		const onlyOne = "the keys of a task belong below tasks, or all of them to the action, with an image"
		return schema{
			"description":      "Runs its tasks when one of its events happens. In its short form, the keys of its one task stand here. (Extension.)",
			"dependentSchemas": schema{"event": schema{"properties": schema{"events": false}, "errorMessage": "event cannot stand beside events"}},
			"if":               schema{"type": "object", "anyOf": isShort},
			"then":             schema{"required": []string{"image"}, "properties": schema{"tasks": false}, "errorMessage": onlyOne},
		}
	})
	return kind[Action]{of.schema, func(d *decoder, at reader.Value, into *Action) {
		before := d.Mistakes
		d.Mistakes = nil
		defer func() { d.Mistakes = before }()
		var read shortAction
		of.read(d, at, &read)
		*into = read.Action
		into.Mistakes = Mistakes(d.Mistakes).sorted()
		// An unknown key may be a misspelled key for events.
		into.unread = slices.ContainsFunc(into.Mistakes, func(mistake Mistake) bool {
			return !read.hasEvents || strings.HasPrefix(mistake.Path, at.Path+".event")
		})
	}}
}

func (d *decoder) checkAction(at reader.Value, short []string, given members, read *shortAction) {
	one, several := given["event"], given["events"]
	read.hasEvents = one.Node != nil || several.Node != nil
	if one.Node != nil {
		read.Events = append(read.Events, read.event)
		if several.Node != nil {
			d.Wrong(one, "can't stand beside events: write it as one of them, {name: …}")
		}
	}
	var ofTask []reader.Value
	for _, name := range short {
		if value := given[name]; value.Node != nil {
			ofTask = append(ofTask, value)
		}
	}
	switch {
	case len(ofTask) == 0 && len(read.Tasks) > 0 && read.Name == "":
		d.Warn(at, "has no name; messages and labels of its Jobs would be easier to find with one")
	case len(ofTask) == 0:
	case given["tasks"].Node != nil:
		for _, value := range ofTask {
			d.Wrong(value, "belongs to a task: write it below tasks, or all keys of the one task at the action")
		}
	default:
		read.task.Name, read.task.line = read.Name, at.Node.Line
		d.checkTask(at, nil, &read.task)
		read.Tasks = append(read.Tasks, read.task)
	}
}

func event() kind[Event] {
	path := object([]property[JSONPath]{
		key("property", "A JSONPath (RFC 9535) of the event.", jsonPath(), func(p *JSONPath) *string { return &p.Property }, example("$.data.test.teststrategy")),
		key("match", "The value that it must have, as text.", text(), func(p *JSONPath) *string { return &p.Match }, example("performance")),
	}, nil, nil)
	return object([]property[Event]{
		key("name", "A regular expression that must match somewhere in the event's type.", eventName(), func(e *Event) *Event { return e }, example("sh.keptn.event.test.triggered")),
		key("jsonpath", "A value that the event must have.", path, func(e *Event) *JSONPath { return &e.JSONPath }),
	}, func(d *decoder, at reader.Value, given members, event *Event) {
		if given["name"].Node == nil {
			d.compile(at, event) // an empty pattern matches every event
		}
	}, nil)
}

// eventName is a regular expression for the types of events.
func eventName() kind[Event] {
	return kind[Event]{
		func() schema {
			return noContainer().with(schema{"maxLength": expression.MaxPatternBytes, "format": "regex"}, message("must be the type of an event, or a regular expression for several"))
		},
		func(d *decoder, at reader.Value, into *Event) {
			into.Name = d.Text(at)
			d.compile(at, into)
			d.warnOfEvent(at, into)
		},
	}
}

// phases are the last parts of the types of Keptn's events.
var phases = []string{"triggered", "started", "finished", "status.changed"}

// warnOfEvent warns about a pattern that also matches its task's started and finished events, or events of a
// sequence.
func (d *decoder) warnOfEvent(at reader.Value, event *Event) {
	if event.pattern == nil || event.Name == "" {
		return
	}
	name := strings.Trim(event.Name, "^$")
	plain := strings.TrimPrefix(strings.ReplaceAll(name, `\.`, "."), "sh.keptn.event.")
	switch parts := strings.Split(plain, "."); {
	case strings.ContainsAny(plain, `*+?|[](){}\`):
	case !slices.ContainsFunc(phases, func(phase string) bool { return strings.HasSuffix(plain, phase) }):
		d.Warn(at, "%q also matches started and finished events; write sh.keptn.event.%s.triggered", reader.Cut(event.Name), parts[0])
	case len(parts) == 3 && strings.HasPrefix(name, "sh.keptn.event.") && parts[2] == "triggered":
		d.Warn(at, "%q is the event of sequence %s in stage %s, not of a task; tasks have sh.keptn.event.TASK.triggered", reader.Cut(event.Name), parts[1], parts[0])
	}
}

func (d *decoder) compile(at reader.Value, event *Event) {
	pattern, size, err := expression.Compile(event.Name)
	d.patternsSize += size
	switch {
	case err != nil:
		advice := ""
		if strings.HasPrefix(event.Name, "*") {
			advice = "; write .* for any text, or the whole event type"
		}
		d.Wrong(at, "%q is not a regular expression: %s%s", reader.Cut(event.Name), err, advice)
	case d.patternsSize > maxPatternsSize:
		d.Wrong(at, "is too much: the names of all events together are too large")
	default:
		event.pattern = pattern
	}
}

// isMapOrNothing reports whether a value may be a map.
func isMapOrNothing(at reader.Value) bool { return at.Node.Kind == yaml.MappingNode || at.IsNull() }
