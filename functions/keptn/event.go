package keptn

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
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

// Attributes that the bridge adds so that a Trigger can filter on them: filters
// see attributes, never data.
const (
	ProjectExtension = "keptnproject"
	StageExtension   = "keptnstage"
	ServiceExtension = "keptnservice"
	TaskExtension    = "keptntask"
)

// LogExtension is the attribute of an answer that holds, percent-encoded, what Keptn's log
// is told beside it. Keptn itself does not get it.
const LogExtension = "keptnlog"

// EndedExtension is the attribute of a finished event that says when the run ended
// (RFC 3339). It is for the bridge only, and not sent to Keptn.
const EndedExtension = "runended"

// TriggeredAtExtension is the attribute of an answer that says when its task was
// triggered (RFC 3339). It is for the bridge only, too.
const TriggeredAtExtension = "triggeredat"

// TraceparentExtension is the attribute of an event that says within which span it was sent
// (CloudEvents, Distributed Tracing extension), and TriggeredWithinExtension that of an
// answer that says it of its task's triggered event.
const (
	TraceparentExtension     = "traceparent"
	TriggeredWithinExtension = "triggeredwithin"
)

// noTraceparent notes that Keptn named no span.
const noTraceparent = "none"

// RunResultExtension is the attribute of an answer, or of a LogError, that says how the run
// ended. It is for the bridge only.
const RunResultExtension = "runresult"

// RunResult is how a run ended, in the words of the OpenTelemetry semantic conventions
// (cicd.pipeline.task.run.result).
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

// FailedResults are those of runs that went wrong.
func FailedResults() []RunResult { return []RunResult{RunFailure, RunError, RunTimeout} }

// IsFailed says whether it is one of FailedResults.
func (result RunResult) IsFailed() bool { return slices.Contains(FailedResults(), result) }

// SpecVersion is the version of Keptn's event specification that is spoken here.
const SpecVersion = "0.2.4"

// Source is the source of every event that is sent to Keptn. It must not be
// empty: an event without it crashes Keptn's shipyard-controller.
const Source = "job-executor"

// Status says whether a task could be executed (Keptn spec, EventData.status).
type Status string

// Result says how what was executed went (Keptn spec, EventData.result).
type Result string

// The values that are sent; Keptn takes any other for a failure.
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

const typePrefix = "sh.keptn.event."

// TypeOf returns the type of a task's event.
func TypeOf(task string, phase Phase) string {
	return typePrefix + task + "." + string(phase)
}

// ParseType splits the type of a task's event. It returns false for any other
// type, among them those of sequences (sh.keptn.event.<stage>.<sequence>.<phase>).
func ParseType(eventType string) (task string, phase Phase, ok bool) {
	rest, ok := strings.CutPrefix(eventType, typePrefix)
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

// Task is what a triggered event says about the task that Keptn wants done, and
// all that is needed to answer it. It is kept as JSON with the Jobs of its run.
type Task struct {
	// TriggeredID is the id of the triggered event.
	TriggeredID string `json:"triggeredID"`
	// Name is the task's name in the shipyard, such as "test".
	Name string `json:"name"`
	// Context is the Keptn context, a UUID: one for a whole sequence.
	Context     string            `json:"context"`
	GitCommitID string            `json:"gitCommitID,omitempty"`
	Project     string            `json:"project"`
	Stage       string            `json:"stage"`
	Service     string            `json:"service"`
	Labels      map[string]string `json:"labels,omitempty"`
	// TriggeredAt is when Keptn triggered it; zero if that is not known.
	TriggeredAt time.Time `json:"triggeredAt,omitzero"`
	// Traceparent is the span within which Keptn sent its event, if it said so (W3C Trace
	// Context).
	Traceparent string `json:"traceparent,omitempty"`
	// Observed says that it is none that Keptn wants done: what was observed is an event
	// that triggers nothing, whose id is TriggeredID, and Name the rest of its type.
	Observed bool `json:"observed,omitempty"`
}

// eventData is the part of every Keptn event's data that is the same for all.
type eventData struct {
	Project string            `json:"project,omitempty"`
	Stage   string            `json:"stage,omitempty"`
	Service string            `json:"service,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Status  Status            `json:"status,omitempty"`
	Result  Result            `json:"result,omitempty"`
	Message string            `json:"message,omitempty"`
}

// ParseTask reads the task and the phase from any of its events: triggered, started or
// finished. It returns an error for an event that is none, or that lacks what Keptn
// needs to assign an answer to its task.
func ParseTask(taskEvent event.Event) (Task, Phase, error) {
	task, phase, _, err := parse(taskEvent)
	return task, phase, err
}

// Answer is a started or finished event of a task, read.
type Answer struct {
	Task  Task
	Phase Phase
	// Event is as Keptn is given it, without what the Broker and the Triggers added.
	Event event.Event
	// Status and Message are those of a finished event.
	Status  Status
	Message string
	// EndedAt is when the run of a finished event ended; zero if that is not known.
	EndedAt time.Time
	// Logged is what Keptn's log is told beside it, if anything.
	Logged string
	// RunResult is how the run ended; empty if that is not known.
	RunResult RunResult
}

// ParseAnswer reads an answer. Its errors are those of ParseTask, and that the event is
// no answer.
func ParseAnswer(answer event.Event) (Answer, error) {
	task, phase, data, err := parse(answer)
	if err != nil {
		return Answer{}, err
	}
	if phase == Triggered {
		return Answer{}, fmt.Errorf("event type %q is no answer to a task", answer.Type())
	}
	logged, err := url.QueryUnescape(extension(answer, LogExtension))
	if err != nil {
		logged = "" // it is none of ours
	}
	outgoing := answer.Clone()
	for name := range answer.Extensions() {
		switch name {
		case ContextExtension, TriggeredIDExtension, GitCommitIDExtension, SpecVersionExtension:
		default:
			outgoing.SetExtension(name, nil)
		}
	}
	return Answer{
		Task: task, Phase: phase, Event: outgoing, Status: data.Status, Message: data.Message, EndedAt: timeOf(answer, EndedExtension), Logged: logged,
		RunResult: RunResult(extension(answer, RunResultExtension)),
	}, nil
}

func parse(taskEvent event.Event) (Task, Phase, eventData, error) {
	name, phase, ok := ParseType(taskEvent.Type())
	if !ok {
		return Task{}, "", eventData{}, fmt.Errorf("event type %q is not that of a Keptn task", taskEvent.Type())
	}
	task := Task{
		TriggeredID: extension(taskEvent, TriggeredIDExtension),
		Name:        name,
		TriggeredAt: timeOf(taskEvent, TriggeredAtExtension),
		Traceparent: extension(taskEvent, TriggeredWithinExtension),
	}
	if phase == Triggered {
		task.TriggeredID, task.TriggeredAt, task.Traceparent = taskEvent.ID(), taskEvent.Time().UTC(), withinOf(taskEvent)
	}
	data, err := task.read(taskEvent)
	return task, phase, data, err
}

// read takes over what every event of Keptn says of what it is about.
func (task *Task) read(taskEvent event.Event) (eventData, error) {
	var data eventData
	if err := taskEvent.DataAs(&data); err != nil {
		return eventData{}, fmt.Errorf("reading the data of event %s: %w", taskEvent.ID(), err)
	}
	task.Context, task.GitCommitID = extension(taskEvent, ContextExtension), extension(taskEvent, GitCommitIDExtension)
	task.Project, task.Stage, task.Service, task.Labels = data.Project, data.Stage, data.Service, data.Labels
	for what, value := range map[string]string{
		"id of the triggered event": task.TriggeredID, "Keptn context": task.Context,
		"project": task.Project, "stage": task.Stage, "service": task.Service,
	} {
		if value == "" {
			return eventData{}, fmt.Errorf("event %s of type %s has no %s", taskEvent.ID(), taskEvent.Type(), what)
		}
	}
	return data, nil
}

// ObservedType is the type in which an event that triggers no task goes through the Broker.
// With its own it would be taken there for an answer to Keptn, of which there must be one
// only.
const ObservedType = "io.github.job-executor.event.observed"

// ObservedTypeExtension is the attribute that holds its own type.
const ObservedTypeExtension = "observedtype"

// Observed returns an event as it goes through the Broker.
func Observed(seen event.Event) event.Event {
	wrapped := seen.Clone()
	wrapped.SetType(ObservedType)
	wrapped.SetExtension(ObservedTypeExtension, seen.Type())
	return wrapped
}

// Unwrap returns the event that was Observed.
func Unwrap(wrapped event.Event) event.Event {
	seen := wrapped.Clone()
	seen.SetType(extension(wrapped, ObservedTypeExtension))
	seen.SetExtension(ObservedTypeExtension, nil)
	return seen
}

// ParseEvent reads what may be run for an event: the task that it triggers, or, of any
// other event of Keptn, what was observed. Its errors are those of ParseTask.
func ParseEvent(seen event.Event) (Task, error) {
	if _, phase, ok := ParseType(seen.Type()); ok && phase == Triggered {
		task, _, err := ParseTask(seen)
		return task, err
	}
	name, ok := strings.CutPrefix(seen.Type(), typePrefix)
	if !ok || name == "" {
		return Task{}, fmt.Errorf("event type %q is none of Keptn's", seen.Type())
	}
	task := Task{TriggeredID: seen.ID(), Name: name, TriggeredAt: seen.Time().UTC(), Traceparent: withinOf(seen), Observed: true}
	_, err := task.read(seen)
	return task, err
}

// ErrTriggersNothing says that an event triggers nothing, and was not Observed either.
var ErrTriggersNothing = errors.New("it triggers nothing")

// ParseReceived reads what may be run for an event as the bridge gives it to executors: a
// triggered event, or one that was Observed, which it returns as it was seen. Its errors are
// those of ParseTask, and ErrTriggersNothing.
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

// withinOf is within which span a triggered event was sent: what the bridge has noted, whose
// own span has taken the attribute's place since, or else the attribute.
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

// timeOf reads an attribute that is a time; zero if it is none.
func timeOf(taskEvent event.Event, name string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, extension(taskEvent, name))
	if err != nil {
		return time.Time{}
	}
	return at
}

func extension(taskEvent event.Event, name string) string {
	value, _ := taskEvent.Extensions()[name].(string)
	return value
}

// Attributes returns the attributes for Triggers, which the bridge adds to a
// triggered event before it goes to the Broker.
func (task Task) Attributes() map[string]string {
	return map[string]string{
		TriggeredWithinExtension: cmp.Or(task.Traceparent, noTraceparent),
		ProjectExtension:         task.Project,
		StageExtension:           task.Stage,
		ServiceExtension:         task.Service,
		TaskExtension:            task.Name,
	}
}

// Outcome is how a task ended, as its finished event tells it.
type Outcome struct {
	Status  Status
	Result  Result
	Message string
	// Properties are sent as the member of the data that has the task's name;
	// later tasks of the sequence see them there.
	Properties map[string]any
	// Labels are added to those of the task.
	Labels map[string]string
	// Data are further members of the data; those that Keptn itself knows stay as they are.
	Data map[string]any
}

// Errored is the outcome of a task that could not be executed.
func Errored(message string) Outcome {
	return Outcome{Status: StatusErrored, Result: ResultFail, Message: message}
}

// Started returns the task's started event. The same task gives the same id
// every time, so that a repeated one can be recognised.
func (task Task) Started(at time.Time) event.Event { return task.StartedSaying(at, "") }

// StartedSaying returns the same with a message for whoever looks at it in Keptn.
func (task Task) StartedSaying(at time.Time, message string) event.Event {
	data := task.data(Outcome{})
	if message != "" {
		data["message"] = message
	}
	return task.answer(Started, at, data)
}

// Finished returns the task's finished event, with the same id every time.
func (task Task) Finished(at time.Time, outcome Outcome) event.Event {
	data := map[string]any{}
	maps.Copy(data, outcome.Data)
	if len(outcome.Properties) > 0 {
		data[task.Name] = outcome.Properties
	}
	maps.Copy(data, task.data(outcome))
	return task.answer(Finished, at, data)
}

// LogErrorType is the type of an event that tells an error of a task which has no
// finished event, for Keptn's log of the integration (as the job-executor-service
// has it, pkg/eventhandler).
const LogErrorType = "sh.keptn.log.error"

// LogError returns the event that tells an error of the task, with the same id
// every time.
func (task Task) LogError(at time.Time, message string) event.Event {
	data := task.data(Outcome{})
	data["message"], data["task"] = message, task.Name
	logged := task.answer("log.error", at, data)
	logged.SetType(LogErrorType)
	return logged
}

// LogWaiting returns the event that tells why a task waits, with the same id every time.
func (task Task) LogWaiting(at time.Time, message string) event.Event {
	logged := task.LogError(at, message)
	logged.SetID(answerID(task.TriggeredID + ".log.waiting"))
	return logged
}

// maxLoggedBytes bounds what an attribute holds, which travels as a header.
const maxLoggedBytes = 1 << 10

// WithLog returns an answer by which Keptn's log is told something, too; what is too long
// for that is cut.
func WithLog(answer event.Event, text string) event.Event {
	if text == "" {
		return answer
	}
	if len(text) > maxLoggedBytes {
		text = strings.ToValidUTF8(text[:maxLoggedBytes], "") + "…"
	}
	answer = answer.Clone()
	answer.SetExtension(LogExtension, url.QueryEscape(text))
	return answer
}

// WithRunResult returns an answer, or a LogError, that says how the run ended.
func WithRunResult(answer event.Event, result RunResult) event.Event {
	answer = answer.Clone()
	answer.SetExtension(RunResultExtension, string(result))
	return answer
}

// LogEntry is the entry of Keptn's log that tells an error of the task, without the
// integration's id.
func (task Task) LogEntry(at time.Time, message string) models.LogEntry {
	return models.LogEntry{
		Message: message, Time: at.UTC(), Task: task.Name, KeptnContext: task.Context, TriggeredID: task.TriggeredID, GitCommitID: task.GitCommitID,
	}
}

// LoggedError is a LogError, read.
type LoggedError struct {
	Task    Task
	Message string
	At      time.Time
	// RunResult is how the run ended; empty if it has not.
	RunResult RunResult
}

// Entry is the entry of Keptn's log for it.
func (logged LoggedError) Entry() models.LogEntry {
	return logged.Task.LogEntry(logged.At, logged.Message)
}

// ParseLogError reads a LogError event.
func ParseLogError(told event.Event) (LoggedError, error) {
	var data struct{ Task, Message string }
	if err := told.DataAs(&data); err != nil {
		return LoggedError{}, fmt.Errorf("reading the data of event %s: %w", told.ID(), err)
	}
	task := Task{
		TriggeredID: extension(told, TriggeredIDExtension), Name: data.Task,
		TriggeredAt: timeOf(told, TriggeredAtExtension), Traceparent: extension(told, TriggeredWithinExtension),
	}
	_, _ = task.read(told) // an entry of the log needs not all of it
	return LoggedError{Task: task, Message: data.Message, At: told.Time(), RunResult: RunResult(extension(told, RunResultExtension))}, nil
}

func (task Task) data(outcome Outcome) map[string]any {
	data := map[string]any{"project": task.Project, "stage": task.Stage, "service": task.Service}
	labels := map[string]string{}
	maps.Copy(labels, task.Labels)
	maps.Copy(labels, outcome.Labels)
	if len(labels) > 0 {
		data["labels"] = labels
	}
	if outcome.Status != "" {
		data["status"] = outcome.Status
		data["result"] = outcome.Result
		data["message"] = outcome.Message
	}
	return data
}

// answerNamespace makes the ids of answers unlike any other name-based UUID.
var answerNamespace = uuid.MustParse("6f6a1f0e-6f0c-5c5b-9a52-6a8e0d4e7a11")

func answerID(name string) string { return uuid.NewSHA1(answerNamespace, []byte(name)).String() }

// OneMore returns an answer as one more of its kind, which must not be taken for one
// of those that Keptn has counted, with the same id every time.
func OneMore(answer event.Event, counted int) event.Event {
	more := answer.Clone()
	if counted > 0 {
		more.SetID(answerID(fmt.Sprintf("%s.%d", answer.ID(), counted)))
	}
	return more
}

func (task Task) answer(phase Phase, at time.Time, data map[string]any) event.Event {
	answer := event.New()
	answer.SetID(answerID(task.TriggeredID + "." + string(phase)))
	answer.SetSource(Source)
	answer.SetType(TypeOf(task.Name, phase))
	answer.SetTime(at)
	answer.SetExtension(ContextExtension, task.Context)
	answer.SetExtension(TriggeredIDExtension, task.TriggeredID)
	answer.SetExtension(SpecVersionExtension, SpecVersion)
	if task.GitCommitID != "" {
		answer.SetExtension(GitCommitIDExtension, task.GitCommitID)
	}
	if !task.TriggeredAt.IsZero() {
		answer.SetExtension(TriggeredAtExtension, task.TriggeredAt.UTC().Format(time.RFC3339Nano))
	}
	if task.Traceparent != "" {
		answer.SetExtension(TriggeredWithinExtension, task.Traceparent)
	}
	// A map of strings, numbers and maps of them always encodes.
	_ = answer.SetData(event.ApplicationJSON, data)
	return answer
}

// DecodeEvent reads one event as Keptn lists or publishes it: structured
// CloudEvents JSON, but with members that CloudEvents does not allow (an object
// "extensions", null values) and mostly without datacontenttype. The bytes of
// data are kept as they are.
func DecodeEvent(content []byte) (event.Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil {
		return event.Event{}, fmt.Errorf("decoding a Keptn event: %w", err)
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
		return event.Event{}, fmt.Errorf("decoding a Keptn event: %w", err)
	}
	var decoded event.Event
	if err := json.Unmarshal(attributes, &decoded); err != nil {
		return event.Event{}, fmt.Errorf("decoding a Keptn event: %w", err)
	}
	if len(data) > 0 {
		if err := decoded.SetData(event.ApplicationJSON, []byte(data)); err != nil {
			return event.Event{}, fmt.Errorf("decoding a Keptn event's data: %w", err)
		}
	}
	if err := decoded.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("decoding a Keptn event: %w", err)
	}
	return decoded, nil
}

// EncodeEvent is the structured JSON in which Keptn takes an event.
func EncodeEvent(outgoing event.Event) ([]byte, error) {
	if outgoing.Source() == "" {
		return nil, errors.New("an event without a source crashes Keptn's shipyard-controller")
	}
	content, err := json.Marshal(outgoing)
	if err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", outgoing.ID(), err)
	}
	return content, nil
}
