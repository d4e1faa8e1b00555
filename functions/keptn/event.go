package keptn

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/keptn/go-utils/pkg/api/models"
)

// CloudEvents attributes that Keptn defines (Keptn spec 0.2.4), in lower case.
const (
	ContextExtension     = "shkeptncontext"
	TriggeredIDExtension = "triggeredid"
	GitCommitIDExtension = "gitcommitid"
	SpecVersionExtension = "shkeptnspecversion"
)

// Attributes that the bridge adds: those for Triggers, which cannot filter on data, and Keptn's page of the
// sequence.
const (
	ProjectExtension = "keptnproject"
	StageExtension   = "keptnstage"
	ServiceExtension = "keptnservice"
	TaskExtension    = "keptntask"
	URLExtension     = "keptnurl"
)

// TraceparentExtension is the span in which an event was sent (CloudEvents Distributed Tracing extension).
// TriggeredWithinExtension keeps Keptn's own span on a triggered event: the bridge's span replaces the
// other attribute.
const (
	TraceparentExtension     = "traceparent"
	TriggeredWithinExtension = "triggeredwithin"
)

// noTraceparent is the value if Keptn's event had no span.
const noTraceparent = "none"

// RunResult is the result of a run in OpenTelemetry's semantic conventions (cicd.pipeline.task.run.result).
type RunResult string

// The results of runs.
const (
	RunSuccess      RunResult = "success"
	RunFailure      RunResult = "failure"
	RunError        RunResult = "error"
	RunTimeout      RunResult = "timeout"
	RunCancellation RunResult = "cancellation"
	RunSkip         RunResult = "skip"
)

// FailedResults returns the results of failed runs.
func FailedResults() []RunResult { return []RunResult{RunFailure, RunError, RunTimeout} }

// IsFailed reports whether it is one of FailedResults.
func (r RunResult) IsFailed() bool { return slices.Contains(FailedResults(), r) }

// SpecVersion is the version of Keptn's event specification.
const SpecVersion = "0.2.4"

// Source is the default source of events for Keptn. An event without a source crashes Keptn's
// shipyard-controller.
const Source = "job-executor"

// Status is whether a task could be executed (Keptn spec, EventData.status).
type Status string

// Result is how the execution went (Keptn spec, EventData.result).
type Result string

// Keptn treats any other value as a failure.
const (
	StatusSucceeded Status = "succeeded"
	StatusErrored   Status = "errored"
	ResultPass      Result = "pass"
	ResultWarning   Result = "warning"
	ResultFail      Result = "fail"
)

// Phase is the last part of a task event's type.
type Phase string

// The phases of a task that concern an integration.
const (
	Triggered Phase = "triggered"
	Started   Phase = "started"
	Finished  Phase = "finished"
)

// TypePrefix begins the type of every event of a task or sequence.
const TypePrefix = "sh.keptn.event."

// TypeOf returns the type of a task's event.
func TypeOf(task string, phase Phase) string {
	return TypePrefix + task + "." + string(phase)
}

// ParseType splits the type of a task's event. It returns false for any other type, including types of
// sequences (sh.keptn.event.<stage>.<sequence>.<phase>).
func ParseType(eventType string) (task string, phase Phase, ok bool) {
	rest, ok := strings.CutPrefix(eventType, TypePrefix)
	if !ok {
		return "", "", false
	}
	task, last, ok := strings.Cut(rest, ".")
	if !ok || task == "" {
		return "", "", false
	}
	switch phase = Phase(last); phase {
	case Triggered, Started, Finished:
		return task, phase, true
	default:
		return "", "", false
	}
}

// Task is a task of Keptn, with all data for an answer. The Jobs of its run store it as JSON.
type Task struct {
	// TriggeredID is the id of the triggered event.
	TriggeredID string `json:"triggeredID"`
	// Name is the task's name in the shipyard, such as "test".
	Name string `json:"name"`
	// Context is the Keptn context, a UUID for the whole sequence.
	Context     string            `json:"context"`
	GitCommitID string            `json:"gitCommitID,omitempty"`
	Project     string            `json:"project"`
	Stage       string            `json:"stage"`
	Service     string            `json:"service"`
	Labels      map[string]string `json:"labels,omitempty"`
	// TriggeredAt is when Keptn triggered the task; zero if unknown.
	TriggeredAt time.Time `json:"triggeredAt,omitzero"`
	// Traceparent is the span in which Keptn sent the event, if any (W3C Trace Context).
	Traceparent string `json:"traceparent,omitempty"`
	// URL is Keptn's page of the sequence; empty if unknown.
	URL string `json:"url,omitempty"`
	// Observed is true for an event that triggers no task. TriggeredID is its id, and Name the rest of its
	// type.
	Observed bool `json:"observed,omitempty"`
}

// Pipeline returns the project and stage of a task, the name of its pipeline in OpenTelemetry's terms.
func (t Task) Pipeline() string { return t.Project + "/" + t.Stage }

// Kind groups tasks in metrics.
type Kind struct{ Pipeline, Task string }

// Kind returns the kind of a task.
func (t Task) Kind() Kind { return Kind{t.Pipeline(), t.Name} }

// eventData is the common part of every Keptn event's data.
type eventData struct {
	Project string            `json:"project,omitempty"`
	Stage   string            `json:"stage,omitempty"`
	Service string            `json:"service,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Status  Status            `json:"status,omitempty"`
	Result  Result            `json:"result,omitempty"`
	Message string            `json:"message,omitempty"`
}

// ParseTask returns the task and the phase of a triggered, started or finished event. It returns an error for
// any other event, and if anything is missing that an answer needs.
func ParseTask(taskEvent event.Event) (Task, Phase, error) {
	task, phase, _, err := parse(taskEvent)
	return task, phase, err
}

func parse(taskEvent event.Event) (Task, Phase, eventData, error) {
	name, phase, ok := ParseType(taskEvent.Type())
	if !ok {
		return Task{}, "", eventData{}, fmt.Errorf("event type %q does not belong to a Keptn task", taskEvent.Type())
	}
	task := Task{
		TriggeredID: extension(taskEvent, TriggeredIDExtension),
		Name:        name,
	}
	if phase == Triggered {
		task.TriggeredID, task.TriggeredAt, task.Traceparent = taskEvent.ID(), taskEvent.Time().UTC(), withinOf(taskEvent)
	}
	data, err := task.read(taskEvent)
	return task, phase, data, err
}

// read sets the fields that all of Keptn's events have in common.
func (t *Task) read(taskEvent event.Event) (eventData, error) {
	var data eventData
	if err := taskEvent.DataAs(&data); err != nil {
		return eventData{}, fmt.Errorf("decode the data of event %s: %w", taskEvent.ID(), err)
	}
	t.Context, t.GitCommitID = extension(taskEvent, ContextExtension), extension(taskEvent, GitCommitIDExtension)
	t.Project, t.Stage, t.Service, t.Labels = data.Project, data.Stage, data.Service, data.Labels
	t.URL = extension(taskEvent, URLExtension)
	for what, value := range map[string]string{
		"id of the triggered event": t.TriggeredID, "Keptn context": t.Context,
		"project": t.Project, "stage": t.Stage, "service": t.Service,
	} {
		if value == "" {
			return eventData{}, fmt.Errorf("event %s of type %s has no %s", taskEvent.ID(), taskEvent.Type(), what)
		}
	}
	return data, nil
}

// ObservedType is the type on the Broker of an event that triggers no task. With its own type, the bridge would
// take it for an answer.
const ObservedType = "io.github.job-executor.event.observed"

// ObservedTypeExtension is the attribute with the event's own type.
const ObservedTypeExtension = "observedtype"

// observedSuffix makes the id of a wrapped event its own: a Broker may take an event for a duplicate of another one with
// the same id, as NATS JetStream's channel does with our own finished event.
const observedSuffix = "-observed"

// Observed wraps an event for the Broker.
func Observed(seen event.Event) event.Event {
	wrapped := seen.Clone()
	wrapped.SetID(seen.ID() + observedSuffix)
	wrapped.SetType(ObservedType)
	wrapped.SetExtension(ObservedTypeExtension, seen.Type())
	return wrapped
}

// Unwrap reverts Observed.
func Unwrap(wrapped event.Event) event.Event {
	seen := wrapped.Clone()
	seen.SetID(strings.TrimSuffix(wrapped.ID(), observedSuffix))
	seen.SetType(extension(wrapped, ObservedTypeExtension))
	seen.SetExtension(ObservedTypeExtension, nil)
	return seen
}

// ParseEvent returns the task that an event triggers, or an observed task for any other event of Keptn. Its
// errors are those of ParseTask.
func ParseEvent(seen event.Event) (Task, error) {
	if _, phase, ok := ParseType(seen.Type()); ok && phase == Triggered {
		task, _, err := ParseTask(seen)
		return task, err
	}
	name, ok := strings.CutPrefix(seen.Type(), TypePrefix)
	if !ok || name == "" {
		return Task{}, fmt.Errorf("event type %q is not one of Keptn's", seen.Type())
	}
	task := Task{TriggeredID: seen.ID(), Name: name, TriggeredAt: seen.Time().UTC(), Traceparent: withinOf(seen), Observed: true}
	_, err := task.read(seen)
	return task, err
}

// ErrTriggersNothing means that an event triggers no task and was not wrapped by Observed.
var ErrTriggersNothing = errors.New("it triggers nothing")

// ParseReceived parses an event that the bridge published for executors: a triggered event, or a wrapped one. It
// also returns the triggered event. Its errors are those of ParseTask, and ErrTriggersNothing.
func ParseReceived(received event.Event) (Task, event.Event, error) {
	isObserved := received.Type() == ObservedType
	if isObserved {
		received = Unwrap(received)
	}
	task, err := ParseEvent(received)
	if err == nil && task.Observed != isObserved {
		err = fmt.Errorf("event %s of type %s: %w", received.ID(), received.Type(), ErrTriggersNothing)
	}
	return task, received, err
}

// withinOf returns the span in which Keptn sent a triggered event. The bridge keeps it in an attribute of its
// own, because its own span replaces the usual one.
func withinOf(triggered event.Event) string {
	switch noted := extension(triggered, TriggeredWithinExtension); noted {
	case "":
		return extension(triggered, TraceparentExtension)
	case noTraceparent:
		return ""
	default:
		return noted
	}
}

func extension(taskEvent event.Event, name string) string {
	value, _ := taskEvent.Extensions()[name].(string)
	return value
}

// Attributes returns the attributes that the bridge adds to a triggered event for Triggers.
func (t Task) Attributes() map[string]string {
	attributes := map[string]string{
		TriggeredWithinExtension: cmp.Or(t.Traceparent, noTraceparent),
		ProjectExtension:         t.Project,
		StageExtension:           t.Stage,
		ServiceExtension:         t.Service,
		TaskExtension:            t.Name,
	}
	if t.URL != "" {
		attributes[URLExtension] = t.URL
	}
	return attributes
}

// Outcome is how a task ended.
type Outcome struct {
	Status  Status `json:"status,omitempty"`
	Result  Result `json:"result,omitempty"`
	Message string `json:"message,omitempty"`
	// Labels are added to those of the task.
	Labels map[string]string `json:"labels,omitempty"`
	// Data are further members of the event's data. They never replace a member that Keptn defines.
	Data map[string]any `json:"data,omitempty"`
}

// Errored returns the outcome of a task that could not be executed.
func Errored(message string) Outcome {
	return Outcome{Status: StatusErrored, Result: ResultFail, Message: message}
}

// Event returns the task's started or finished event for Keptn. A started event has only the outcome's
// message. The same task and phase always have the same id.
func (t Task) Event(phase Phase, at time.Time, outcome Outcome) event.Event {
	answer := event.New()
	answer.SetID(t.AnswerID(phase))
	answer.SetSource(Source)
	answer.SetType(TypeOf(t.Name, phase))
	answer.SetTime(at)
	answer.SetExtension(ContextExtension, t.Context)
	answer.SetExtension(TriggeredIDExtension, t.TriggeredID)
	answer.SetExtension(SpecVersionExtension, SpecVersion)
	if t.GitCommitID != "" {
		answer.SetExtension(GitCommitIDExtension, t.GitCommitID)
	}
	// A map of strings, numbers and maps of them always encodes.
	_ = answer.SetData(event.ApplicationJSON, t.data(outcome))
	return answer
}

// LogEntry returns an entry of Keptn's log, without the integration's id.
func (t Task) LogEntry(at time.Time, message string) models.LogEntry {
	return models.LogEntry{
		Message: message, Time: at.UTC(), Task: t.Name, KeptnContext: t.Context, TriggeredID: t.TriggeredID, GitCommitID: t.GitCommitID,
	}
}

func (t Task) data(outcome Outcome) map[string]any {
	data := map[string]any{}
	maps.Copy(data, outcome.Data)
	data["project"], data["stage"], data["service"] = t.Project, t.Stage, t.Service
	if labels := t.AllLabels(outcome); len(labels) > 0 {
		data["labels"] = labels
	}
	if outcome.Status != "" {
		data["status"], data["result"] = outcome.Status, outcome.Result
	}
	if outcome.Status != "" || outcome.Message != "" {
		data["message"] = outcome.Message
	}
	return data
}

// AllLabels returns the labels of the task and of its outcome.
func (t Task) AllLabels(outcome Outcome) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, t.Labels)
	maps.Copy(labels, outcome.Labels)
	return labels
}

// answerNamespace distinguishes the ids of answers from other name-based UUIDs.
var answerNamespace = uuid.MustParse("6f6a1f0e-6f0c-5c5b-9a52-6a8e0d4e7a11")

func answerID(name string) string { return uuid.NewSHA1(answerNamespace, []byte(name)).String() }

// AnswerID returns the id of the task's event of a phase.
func (t Task) AnswerID(phase Phase) string {
	return answerID(t.TriggeredID + "." + string(phase))
}

// OneMore gives an event a new id if Keptn has already counted events of its kind. The same count gives
// the same id.
func OneMore(answer event.Event, counted int) event.Event {
	more := answer.Clone()
	if counted > 0 {
		more.SetID(answerID(fmt.Sprintf("%s.%d", answer.ID(), counted)))
	}
	return more
}

// DecodeEvent parses an event as Keptn lists or publishes it: structured CloudEvents JSON, but with members
// that CloudEvents does not allow (an object "extensions", null values), and mostly without datacontenttype. It
// keeps the bytes of the data.
func DecodeEvent(content []byte) (event.Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil {
		return event.Event{}, fmt.Errorf("decode a Keptn event: %w", err)
	}
	data := members["data"]
	for name, value := range members {
		value = bytes.TrimSpace(value)
		if name == "data" || bytes.Equal(value, []byte("null")) || value[0] == '{' || value[0] == '[' || name != strings.ToLower(name) {
			delete(members, name)
		}
	}
	delete(members, "contenttype")
	attributes, err := json.Marshal(members)
	if err != nil {
		return event.Event{}, fmt.Errorf("decode a Keptn event: %w", err)
	}
	var decoded event.Event
	if err := json.Unmarshal(attributes, &decoded); err != nil {
		return event.Event{}, fmt.Errorf("decode a Keptn event: %w", err)
	}
	if len(data) > 0 {
		if err := decoded.SetData(event.ApplicationJSON, []byte(data)); err != nil {
			return event.Event{}, fmt.Errorf("decode the data of a Keptn event: %w", err)
		}
	}
	if err := decoded.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("decode a Keptn event: %w", err)
	}
	return decoded, nil
}

// EncodeEvent returns an event as structured JSON, as Keptn accepts it.
func EncodeEvent(outgoing event.Event) ([]byte, error) {
	if outgoing.Source() == "" {
		return nil, errors.New("an event without a source crashes Keptn's shipyard-controller")
	}
	content, err := json.Marshal(outgoing)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", outgoing.ID(), err)
	}
	return content, nil
}

// Size returns how many bytes EncodeEvent would return. It does not encode the event's data again.
func Size(outgoing event.Event) (int, error) {
	data := len(outgoing.DataEncoded)
	outgoing.DataEncoded = nil
	content, err := EncodeEvent(outgoing)
	return len(content) + len(`,"data":`) + data, err
}
