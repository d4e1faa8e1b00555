package keptn

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// listed is a triggered event as a real Keptn lists it (recording 02-pass).
const listed = `{"data": {"labels": {"build": "17"}, "project": "seed", "service": "svc", "stage": "production"},
 "gitcommitid": "f24899eb80016f64c4e420b4d2b3806b41c945cf", "id": "48b872a9-5c79-430f-bef2-3e5990627fa3",
 "shkeptncontext": "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", "shkeptnspecversion": "0.2.4", "source": "shipyard-controller",
 "specversion": "1.0", "time": "2026-11-23T23:13:01.446880389Z", "type": "sh.keptn.event.test.triggered"}`

func TestTaskIsReadFromAListedEvent(t *testing.T) {
	decoded, err := DecodeEvent([]byte(listed))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := ParseTask(decoded)
	if err != nil {
		t.Fatal(err)
	}
	want := Task{
		TriggeredID: "48b872a9-5c79-430f-bef2-3e5990627fa3", Name: "test", Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b",
		GitCommitID: "f24899eb80016f64c4e420b4d2b3806b41c945cf", Project: "seed", Stage: "production", Service: "svc", Labels: map[string]string{"build": "17"},
		TriggeredAt: time.Date(2026, 11, 23, 23, 13, 1, 446880389, time.UTC),
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if difference := cmp.Diff(
		`{"labels": {"build": "17"}, "project": "seed", "service": "svc", "stage": "production"}`,
		string(decoded.Data()),
	); difference != "" {
		t.Errorf("the data's bytes (-want +got):\n%s", difference)
	}
}

func TestAnswerGetsAnIDForEachCount(t *testing.T) {
	answer := Task{TriggeredID: "1", Name: "test"}.Event(Started, time.Time{}, Outcome{})
	ids := map[string]bool{}
	for count := range 3 {
		more := OneMore(answer, count)
		if again := OneMore(answer, count); again.ID() != more.ID() {
			t.Errorf("%d counted: ids %s and %s", count, more.ID(), again.ID())
		}
		ids[more.ID()] = true
	}
	if len(ids) != 3 || !ids[answer.ID()] {
		t.Errorf("got ids %v, want three with %s", ids, answer.ID())
	}
}

func TestAnswersAreWhatKeptnExpects(t *testing.T) {
	task := Task{
		TriggeredID: "48b872a9-5c79-430f-bef2-3e5990627fa3",
		Name:        "test",
		Context:     "c",
		GitCommitID: "f2",
		Project:     "p",
		Stage:       "s",
		Service:     "v",
		Labels:      map[string]string{"build": "17"},
	}
	tests := []struct {
		name    string
		encoded func() ([]byte, error)
		want    string
	}{
		{name: "started", encoded: func() ([]byte, error) { return EncodeEvent(task.Event(Started, now, Outcome{})) }, want: `{
			"specversion": "1.0", "id": "7d5e9e47-51dc-5bd7-a2d3-e2b1a31f1d2c", "type": "sh.keptn.event.test.started", "source": "job-executor",
			"time": "2026-11-24T12:00:00Z", "datacontenttype": "application/json", "shkeptncontext": "c", "shkeptnspecversion": "0.2.4",
			"gitcommitid": "f2", "triggeredid": "48b872a9-5c79-430f-bef2-3e5990627fa3",
			"data": {"project": "p", "stage": "s", "service": "v", "labels": {"build": "17"}}}`},
		{name: "finished", encoded: func() ([]byte, error) {
			return EncodeEvent(
				task.Event(Finished, now, Outcome{
					Status: StatusSucceeded, Result: ResultPass, Message: "done",
					Data: map[string]any{"test": map[string]any{"start": "then"}, "project": "another", "labels": 1},
				}),
			)
		}, want: `{
			"specversion": "1.0", "id": "", "type": "sh.keptn.event.test.finished", "source": "job-executor",
			"time": "2026-11-24T12:00:00Z", "datacontenttype": "application/json", "shkeptncontext": "c", "shkeptnspecversion": "0.2.4",
			"gitcommitid": "f2", "triggeredid": "48b872a9-5c79-430f-bef2-3e5990627fa3",
			"data": {"project": "p", "stage": "s", "service": "v", "labels": {"build": "17"}, "status": "succeeded", "result": "pass",
			"message": "done", "test": {"start": "then"}}}`},
	}
	ids := map[string]bool{}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			content, err := test.encoded()
			if err != nil {
				t.Fatal(err)
			}
			again, err := test.encoded()
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(string(content), string(again)); difference != "" {
				t.Errorf("a repeated answer differs:\n%s", difference)
			}
			var want, got map[string]any
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(content, &got); err != nil {
				t.Fatal(err)
			}
			id, _ := got["id"].(string)
			if id == "" || ids[id] {
				t.Errorf("the id %q is empty or another answer's", id)
			}
			ids[id] = true
			want["id"] = id
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestParseType(t *testing.T) {
	tests := []struct {
		eventType, task string
		phase           Phase
		ok              bool
	}{
		{eventType: "sh.keptn.event.test.triggered", task: "test", phase: Triggered, ok: true},
		{eventType: "sh.keptn.event.get-sli.finished", task: "get-sli", phase: Finished, ok: true},
		{eventType: "sh.keptn.event.production.pipeline.triggered"},
		{eventType: "sh.keptn.event.test.status.changed"},
		{eventType: "sh.keptn.event.test.invalidated"},
		{eventType: "sh.keptn.event..started"},
		{eventType: "com.example.test.started"},
	}
	for _, test := range tests {
		t.Run(test.eventType, func(t *testing.T) {
			task, phase, ok := ParseType(test.eventType)
			if task != test.task || phase != test.phase || ok != test.ok {
				t.Errorf("got %q, %q, %v", task, phase, ok)
			}
		})
	}
}

func TestParseTaskRefusesWhatCanNotBeAnswered(t *testing.T) {
	tests := []struct{ name, event, want string }{
		{
			name:  "a sequence",
			event: `{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event.a.b.triggered"}`,
			want:  `event type "sh.keptn.event.a.b.triggered" does not belong to a Keptn task`,
		},
		{
			name:  "no service",
			event: `{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event.a.triggered","shkeptncontext":"c","data":{"project":"p","stage":"s"}}`,
			want:  "event 1 of type sh.keptn.event.a.triggered has no service",
		},
		{
			name:  "no context",
			event: `{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event.a.triggered","data":{"project":"p","stage":"s","service":"v"}}`,
			want:  "event 1 of type sh.keptn.event.a.triggered has no Keptn context",
		},
		{
			name:  "an answer to nothing",
			event: `{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event.a.started","shkeptncontext":"c","data":{"project":"p","stage":"s","service":"v"}}`,
			want:  "event 1 of type sh.keptn.event.a.started has no id of the triggered event",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decoded, err := DecodeEvent([]byte(test.event))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = ParseTask(decoded)
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestParseEventReadsWhatMayBeRunFor(t *testing.T) {
	const data = `"shkeptncontext":"c","gitcommitid":"g","triggeredid":"0","data":{"project":"p","stage":"s","service":"v","labels":{"l":"1"}}}`
	whole := func(task Task) Task {
		task.TriggeredID, task.Context, task.GitCommitID, task.Project, task.Stage, task.Service = "1", "c", "g", "p", "s", "v"
		task.Labels, task.TriggeredAt = map[string]string{"l": "1"}, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		return task
	}
	tests := []struct {
		eventType, data string
		want            Task
		err             string
	}{
		{eventType: "sh.keptn.event.test.triggered", data: data, want: whole(Task{Name: "test"})},
		{eventType: "sh.keptn.event.test.finished", data: data, want: whole(Task{Name: "test.finished", Observed: true})},
		{eventType: "sh.keptn.event.dev.delivery.finished", data: data, want: whole(Task{Name: "dev.delivery.finished", Observed: true})},
		{eventType: "sh.keptn.event.note", data: data, want: whole(Task{Name: "note", Observed: true})},
		{eventType: "sh.keptn.event.note", data: `"shkeptncontext":"c","data":{"project":"p"}}`, err: "event 1 of type sh.keptn.event.note has no "},
		{eventType: "sh.keptn.event.", data: data, err: `event type "sh.keptn.event." is not one of Keptn's`},
		{eventType: "sh.keptn.log.error", data: data, err: `event type "sh.keptn.log.error" is not one of Keptn's`},
		{eventType: ObservedType, data: data, err: `event type "io.github.job-executor.event.observed" is not one of Keptn's`},
	}
	for _, test := range tests {
		t.Run(test.eventType, func(t *testing.T) {
			decoded, err := DecodeEvent([]byte(`{"specversion":"1.0","id":"1","source":"s","time":"2026-11-24T12:00:00Z","type":"` + test.eventType + `",` + test.data))
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseEvent(decoded)
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if difference := cmp.Diff(test.want, got); difference != "" || err != nil {
				t.Errorf("got %v (-want +got):\n%s", err, difference)
			}
			if difference := cmp.Diff(decoded.String(), Unwrap(Observed(decoded)).String()); difference != "" {
				t.Errorf("after its way through the Broker (-want +got):\n%s", difference)
			}
		})
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(listed))
	f.Add([]byte(`{"id":"1","source":"s","type":"t","specversion":"1.0","extensions":{},"contenttype":null,"data":{}}`))
	f.Add([]byte(`{"specversion":""}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		decoded, err := DecodeEvent(content)
		if err == nil && decoded.Validate() != nil {
			t.Fatalf("an invalid event was decoded: %v", decoded)
		}
	})
}

func TestSizeIsThatOfTheEncodedEvent(t *testing.T) {
	task := Task{TriggeredID: "1", Name: "test", Context: "c", GitCommitID: "g", Project: "p", Stage: "s", Service: "v"}
	for _, outgoing := range []event.Event{task.Event(Started, now, Outcome{}), task.Event(Finished, now, Errored("<\"ä\">\n"))} {
		content, err := EncodeEvent(outgoing)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := Size(outgoing); err != nil || size != len(content) {
			t.Errorf("got %d, %v, want %d", size, err, len(content))
		}
	}
}
