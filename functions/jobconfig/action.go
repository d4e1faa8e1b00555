package jobconfig

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
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
		key("name", "Name in messages. In the short form it is also the task's name.", text(), func(a *shortAction) *string { return &a.Name }, example("Run the load tests")),
		key("silent", "Sends no started and finished events. Errors appear in Keptn's log of the integration.", toggle(), func(a *shortAction) *bool { return &a.Silent }, example(true)),
		key("parallel", "Runs all tasks at the same time, each to its end. (Extension.)", toggle(), func(a *shortAction) *bool { return &a.Parallel }, example(true)),
		key("event", "The event that starts the action: a regular expression, like events[].name. (Extension.)", eventName(), func(a *shortAction) *Event { return &a.event },
			example("sh.keptn.event.test.triggered")),
		key("events", "The events that start the action. One match is enough.", list(defined("event", event())), func(a *shortAction) *[]Event { return &a.Events }),
		key("tasks", "Tasks that run one after the other until one fails, or at the same time if parallel is true.", list(defined("task", task())),
			func(a *shortAction) *[]Task { return &a.Tasks }),
	}
}

// shortFields are the keys of a task that an action may have. The task's name is the action's.
func shortFields() (short []property[shortAction]) {
	for _, of := range taskFields() {
		if of.name != "name" {
			reference := func() schema { return schema{"$ref": "#/$defs/task/properties/" + of.name} }
			short = append(short, property[shortAction]{of.name, reference, func(d *decoder, at yamlValue, into *shortAction) { of.read(d, at, &into.task) }})
		}
	}
	return short
}

// action reads an action with its own mistakes.
func action() kind[Action] {
	fields, short := longFields(), shortFields()
	names := namesOf(short)
	slices.Sort(names)
	check := func(d *decoder, at yamlValue, given members, read *shortAction) {
		d.checkAction(at, names, given, read)
	}
	of := object(slices.Concat(fields, short), check, func() schema {
		isShort := []schema{}
		for _, name := range names {
			isShort = append(isShort, schema{"required": []string{name}})
		}
		const onlyOne = "write the keys of a task below tasks, or all of them at the action, with an image"
		return schema{
			"description":      "Runs its tasks when one of its events happens. In the short form, the keys of its only task are keys of the action. (Extension.)",
			"dependentSchemas": schema{"event": schema{"properties": schema{"events": false}, "errorMessage": "event and events are mutually exclusive"}},
			"if":               schema{"type": "object", "anyOf": isShort},
			"then":             schema{"required": []string{"image"}, "properties": schema{"tasks": false}, "errorMessage": onlyOne},
		}
	})
	return kind[Action]{of.schema, func(d *decoder, at yamlValue, into *Action) {
		before := d.mistakes
		d.mistakes = nil
		defer func() { d.mistakes = before }()
		var read shortAction
		of.read(d, at, &read)
		*into = read.Action
		into.Mistakes = d.mistakes.sorted()
		// An unknown key may be a misspelled key for events.
		into.unread = slices.ContainsFunc(into.Mistakes, func(mistake Mistake) bool {
			return !read.hasEvents || strings.HasPrefix(mistake.Path, at.path+".event")
		})
	}}
}

func (d *decoder) checkAction(at yamlValue, short []string, given members, read *shortAction) {
	one, several := given["event"], given["events"]
	read.hasEvents = one.node != nil || several.node != nil
	if one.node != nil {
		read.Events = append(read.Events, read.event)
		if several.node != nil {
			d.wrong(one, "and events are mutually exclusive: add it to events as {name: …}")
		}
	}
	var ofTask []yamlValue
	for _, name := range short {
		if value := given[name]; value.node != nil {
			ofTask = append(ofTask, value)
		}
	}
	switch {
	case len(ofTask) == 0 && len(read.Tasks) > 0 && read.Name == "":
		d.warn(at, "should have a name, which appears in messages and in the labels of its Jobs")
	case len(ofTask) == 0:
	case given["tasks"].node != nil:
		for _, value := range ofTask {
			d.wrong(value, "belongs to a task: write it below tasks, or write all keys of a single task at the action")
		}
	default:
		read.task.Name, read.task.line = read.Name, at.node.Line
		d.checkTask(at, nil, &read.task)
		read.Tasks = append(read.Tasks, read.task)
	}
}

func event() kind[Event] {
	path := object([]property[JSONPath]{
		key("property", "A JSONPath (RFC 9535) into the event.", jsonPath(), func(p *JSONPath) *string { return &p.Property }, example("$.data.test.teststrategy")),
		key("match", "The required value, as text.", text(), func(p *JSONPath) *string { return &p.Match }, example("performance")),
	}, nil, nil)
	return object([]property[Event]{
		key("name", "A regular expression that must match somewhere in the event's type. Without it, every event matches.", eventName(), func(e *Event) *Event { return e }, example("sh.keptn.event.test.triggered")),
		key("jsonpath", "Matches only events with a certain value.", path, func(e *Event) *JSONPath { return &e.JSONPath }),
	}, func(d *decoder, at yamlValue, given members, event *Event) {
		if given["name"].node == nil {
			d.compile(at, event) // an empty pattern matches every event
		}
	}, nil)
}

// eventName is a regular expression for the types of events.
func eventName() kind[Event] {
	return kind[Event]{
		func() schema {
			return noContainer().with(schema{"maxLength": maxPatternBytes, "format": "regex"}, message("must be the type of an event, or a regular expression for several"))
		},
		func(d *decoder, at yamlValue, into *Event) {
			into.Name = d.text(at)
			d.compile(at, into)
			d.warnOfEvent(at, into)
		},
	}
}

// phases are the last parts of the types of Keptn's events.
var phases = []string{"triggered", "started", "finished", "status.changed"}

// warnOfEvent warns about a pattern that also matches its task's started and finished events, or events of a
// sequence.
func (d *decoder) warnOfEvent(at yamlValue, event *Event) {
	if event.pattern == nil || event.Name == "" {
		return
	}
	name := strings.Trim(event.Name, "^$")
	plain := strings.TrimPrefix(strings.ReplaceAll(name, `\.`, "."), "sh.keptn.event.")
	switch parts := strings.Split(plain, "."); {
	case strings.ContainsAny(plain, `*+?|[](){}\`):
	case !slices.ContainsFunc(phases, func(phase string) bool { return strings.HasSuffix(plain, phase) }):
		d.warn(at, "%q also matches started and finished events; write sh.keptn.event.%s.triggered", cut(event.Name), parts[0])
	case len(parts) == 3 && strings.HasPrefix(name, "sh.keptn.event.") && parts[2] == "triggered":
		d.warn(at, "%q is the event of sequence %s in stage %s, not of a task; a task's event is sh.keptn.event.TASK.triggered", cut(event.Name), parts[1], parts[0])
	}
}

func (d *decoder) compile(at yamlValue, event *Event) {
	pattern, size, err := compilePattern(event.Name)
	d.patternsSize += size
	switch {
	case err != nil:
		advice := ""
		if strings.HasPrefix(event.Name, "*") {
			advice = "; write .* for any text, or the whole event type"
		}
		d.wrong(at, "%q is not a regular expression: %s%s", cut(event.Name), err, advice)
	case d.patternsSize > maxPatternsSize:
		d.wrong(at, "exceeds the limit: the regular expressions of all events together are too large")
	default:
		event.pattern = pattern
	}
}

// isMapOrNothing reports whether a value may be a map.
func isMapOrNothing(at yamlValue) bool { return at.node.Kind == yaml.MappingNode || at.isNull() }
