package protocol

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/keptn"
)

var (
	noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	task = keptn.Task{
		TriggeredID: "1", Name: "test", Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", GitCommitID: "abc", Project: "p", Stage: "s", Service: "v",
		Labels: map[string]string{"build": "17"}, TriggeredAt: noon.Add(-time.Minute), Traceparent: "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01",
	}
)

// answers returns an answer of each kind.
func answers() map[string]Answer {
	whole := Answer{
		Task: task, Phase: keptn.Finished, At: noon,
		Outcome: keptn.Outcome{
			Status: keptn.StatusSucceeded, Result: keptn.ResultWarning, Message: "3 of 5 are <slow> & \"ät\"\n", Labels: map[string]string{"a": "b"},
			Data: map[string]any{"number": json.Number("9007199254740993.0"), "list": []any{nil, true, "x"}, "object": map[string]any{"a": json.Number("1e-7")}},
		},
		Logged: "a silent action failed", RunResult: keptn.RunFailure, EndedAt: noon.Add(time.Nanosecond),
		Jobs: []Job{{
			Namespace: "jobs", Name: "job-1", UID: "uid", Action: "A", Task: "T", Result: keptn.RunFailure, Failure: "no", Began: noon, Ended: noon.Add(time.Second),
			Phases: []Phase{
				{Name: PhaseQueued, Began: noon, Ended: noon.Add(time.Nanosecond)},
				{
					Name: PhaseRun, Attempt: 1, Began: noon, Ended: noon, Failure: "no", Pod: "pod", Node: "node", ExitCode: new(int32(3)),
					Events: []PodEvent{{At: noon, Reason: "Pulling", Message: "an image"}},
				},
			},
		}},
	}
	started := Answer{Task: task, Phase: keptn.Started, At: noon, Outcome: keptn.Outcome{Message: "Task 'A' runs alpine"}}
	return map[string]Answer{
		"finished, with everything": whole,
		"started":                   started,
		"errored":                   Errored(task, noon, "no"),
		"an entry of the log":       Log(task, noon, "no", keptn.RunSkip),
		"a cancelled run":           {Task: task, Phase: JobsCancelled, At: noon},
	}
}

func TestAnswersSurviveTheBroker(t *testing.T) {
	for name, eventType := range map[string]string{
		"finished, with everything": "sh.keptn.event.test.finished",
		"started":                   "sh.keptn.event.test.started",
		"errored":                   "sh.keptn.event.test.finished",
		"an entry of the log":       "sh.keptn.log.error",
		"a cancelled run":           "sh.keptn.log.error",
	} {
		t.Run(name, func(t *testing.T) {
			answer := answers()[name]
			sent := answer.Event()
			if err := sent.Validate(); err != nil || sent.Type() != eventType {
				t.Fatalf("%v, type %s", err, sent.Type())
			}
			sent.SetExtension("knativearrivaltime", "2026-11-24T12:00:00Z") // by the Broker
			got, err := ParseAnswer(sent)
			if difference := cmp.Diff(answer, got); err != nil || difference != "" {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
		})
	}
}

// The file has each answer as the event of the release at 86859fa, before events had versions and receivers.
func TestAnswersOfAnEarlierReleaseAreRead(t *testing.T) {
	content, err := os.ReadFile("testdata/before-versions.json")
	if err != nil {
		t.Fatal(err)
	}
	var events map[string]event.Event
	if err := json.Unmarshal(content, &events); err != nil {
		t.Fatal(err)
	}
	got := map[string]Answer{}
	for name, received := range events {
		if got[name], err = ParseAnswer(received); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if difference := cmp.Diff(answers(), got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestAnswersHaveTheSameIDEveryTime(t *testing.T) {
	ids := map[string]string{}
	for _, phase := range []keptn.Phase{keptn.Started, keptn.Finished, LogError, LogWaiting, JobsCancelled} {
		one, other := Answer{Task: task, Phase: phase, At: noon}.Event(), Answer{Task: task, Phase: phase, At: noon.Add(time.Hour), Logged: "x"}.Event()
		if one.ID() != other.ID() || ids[one.ID()] != "" {
			t.Errorf("%s: %s and %s, which also %s has", phase, one.ID(), other.ID(), ids[one.ID()])
		}
		ids[one.ID()] = string(phase)
	}
}

func TestAnswersThatKeptnCannotAssignAreRefused(t *testing.T) {
	without := func(change func(*keptn.Task)) event.Event {
		changed := task
		change(&changed)
		return Errored(changed, noon, "no").Event()
	}
	with := func(data string, eventType string) event.Event {
		changed := Errored(task, noon, "no").Event()
		changed.SetType(eventType)
		if data != "" {
			_ = changed.SetData(event.ApplicationJSON, []byte(data))
		}
		return changed
	}
	for want, received := range map[string]event.Event{
		"has no id of the triggered event":  without(func(task *keptn.Task) { task.TriggeredID = "" }),
		"has no task name":                  without(func(task *keptn.Task) { task.Name = "" }),
		"has no Keptn context":              without(func(task *keptn.Task) { task.Context = "" }),
		"has no project":                    without(func(task *keptn.Task) { task.Project = "" }),
		"has no stage":                      without(func(task *keptn.Task) { task.Stage = "" }),
		"has no service":                    without(func(task *keptn.Task) { task.Service = "" }),
		`has phase "triggered"`:             Answer{Task: task, Phase: keptn.Triggered}.Event(),
		"is a sh.keptn.event.test.finished": with("", "sh.keptn.event.test.started"),
		"decode answer":                     with("[", "sh.keptn.event.test.finished"),
		"id of the triggered":               with("null", "sh.keptn.event.test.finished"),
	} {
		if got, err := ParseAnswer(received); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %+v, %v, want an error with %q", got, err, want)
		}
	}
}
