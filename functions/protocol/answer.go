package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/keptn"
)

// The phases of answers that become an entry of Keptn's log instead of an event.
const (
	LogError   keptn.Phase = "log.error"
	LogWaiting keptn.Phase = "log.waiting"
)

// JobsCancelled is the phase of an answer about the Jobs of a cancelled run. Keptn gets nothing.
const JobsCancelled keptn.Phase = "jobs.cancelled"

// LogType is the event type of all three, as in the job-executor-service (pkg/eventhandler).
const LogType = "sh.keptn.log.error"

// Answer is the answer of an executor or the watcher to a task. The bridge decodes it once, and encodes Keptn's
// event last.
type Answer struct {
	Task  keptn.Task  `json:"task"`
	Phase keptn.Phase `json:"phase"`
	// At is the time of the event.
	At time.Time `json:"-"`
	// Outcome is how a finished task ended. In all other phases it has only a message.
	Outcome keptn.Outcome `json:"outcome,omitzero"`
	// Logged becomes an entry of Keptn's log besides the event; empty for none.
	Logged string `json:"logged,omitempty"`
	// RunResult is how the run ended; empty if it has not.
	RunResult keptn.RunResult `json:"runResult,omitempty"`
	// EndedAt is when the run's last Job ended; zero if unknown.
	EndedAt time.Time `json:"endedAt,omitzero"`
	// Jobs are the run's ended Jobs.
	Jobs []Job `json:"endedJobs,omitempty"`
}

// EventType returns the type of the event. For a started or finished task it is the type of the
// event that Keptn gets.
func (a Answer) EventType() string {
	if a.Phase != keptn.Started && a.Phase != keptn.Finished {
		return LogType
	}
	return keptn.TypeOf(a.Task.Name, a.Phase)
}

// IsLog reports whether the answer is only for Keptn's log.
func (a Answer) IsLog() bool { return a.Phase == LogError || a.Phase == LogWaiting }

// Event returns the event for the bridge. The same task and phase always have the same id.
func (a Answer) Event() event.Event {
	answer := event.New()
	answer.SetID(a.Task.AnswerID(a.Phase))
	answer.SetSource(keptn.Source)
	answer.SetType(a.EventType())
	answer.SetTime(a.At)
	answer.SetExtension(keptn.ContextExtension, a.Task.Context)
	answer.SetExtension(keptn.TriggeredIDExtension, a.Task.TriggeredID)
	answer.SetExtension(ReceiverExtension, ReceiverOf(answer.Type()))
	// Strings, numbers and times, and maps and lists of them, always encode.
	_ = answer.SetData(event.ApplicationJSON, a)
	return answer
}

// ParseAnswer decodes the event of an answer. It returns an error if anything is missing that Keptn
// needs in order to match the answer with its task.
func ParseAnswer(received event.Event) (Answer, error) {
	answer := Answer{At: received.Time()}
	decoder := json.NewDecoder(bytes.NewReader(received.Data()))
	decoder.UseNumber() // reported numbers must not lose digits
	if err := decoder.Decode(&answer); err != nil {
		return Answer{}, fmt.Errorf("decode answer %s: %w", received.ID(), err)
	}
	task := answer.Task
	for _, required := range []struct{ name, value string }{
		{"id of the triggered event", task.TriggeredID},
		{"task name", task.Name},
		{"Keptn context", task.Context},
		{"project", task.Project},
		{"stage", task.Stage},
		{"service", task.Service},
	} {
		if required.value == "" {
			return Answer{}, fmt.Errorf("answer %s of type %s has no %s", received.ID(), received.Type(), required.name)
		}
	}
	switch answer.Phase {
	case keptn.Started, keptn.Finished, LogError, LogWaiting, JobsCancelled:
	default:
		return Answer{}, fmt.Errorf("answer %s has phase %q", received.ID(), answer.Phase)
	}
	if received.Type() != answer.EventType() {
		return Answer{}, fmt.Errorf("answer %s of type %s is a %s", received.ID(), received.Type(), answer.EventType())
	}
	return answer, nil
}

// Finished returns the answer that a task ended.
func Finished(task keptn.Task, at time.Time, outcome keptn.Outcome, result keptn.RunResult) Answer {
	return Answer{Task: task, Phase: keptn.Finished, At: at, Outcome: outcome, RunResult: result}
}

// Errored returns the answer that a task could not be run.
func Errored(task keptn.Task, at time.Time, message string) Answer {
	return Finished(task, at, keptn.Errored(message), keptn.RunError)
}

// Log returns an answer for Keptn's log only: the errors of a task without a finished event. The result
// is empty if the run has not ended.
func Log(task keptn.Task, at time.Time, message string, result keptn.RunResult) Answer {
	return Answer{Task: task, Phase: LogError, At: at, Outcome: keptn.Outcome{Message: message}, RunResult: result}
}
