package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/keptn"
)

// A person sees a sequence by the events that mongodb-datastore has stored, over several pages.
func TestSequenceIsReadFromItsEvents(t *testing.T) {
	at := func(second, name, source string, data map[string]any) storedEvent {
		return storedEvent{
			ID: second, Source: source, Type: "sh.keptn.event." + name, Time: "2026-11-24T12:00:0" + second + "Z", Context: "c", Data: data,
		}
	}
	archive := &datastore{
		events: []storedEvent{
			at("5", "test.finished", "job-executor", map[string]any{"project": "p", "status": "succeeded", "result": "warning", "message": "slow"}),
			at("1", "dev.delivery.triggered", "user", map[string]any{"project": "p", "service": "v", "stage": "dev"}),
			at("2", "test.triggered", "shipyard-controller", map[string]any{"project": "p"}),
			at("6", "dev.delivery.finished", "shipyard-controller", map[string]any{"project": "p", "result": "pass"}),
			{ID: "7", Source: "user", Type: "sh.keptn.event.dev.other.triggered", Context: "another"},
		},
		answers: map[string]string{"/v1/event": `{"keptnContext":"new"}`, "/controlPlane/v1/sequence/p/c/control": "{}"},
	}
	client := archive.client(t)
	answers, err := client.Answers(t.Context(), "c")
	want := []Answer{
		{now.Add(5 * time.Second), "sh.keptn.event.test.finished", "p", keptn.StatusSucceeded, keptn.ResultWarning, "slow"},
		{now.Add(6 * time.Second), "sh.keptn.event.dev.delivery.finished", "p", "", keptn.ResultPass, ""},
	}
	if difference := cmp.Diff(want, answers); err != nil || difference != "" {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	sequence, err := client.Sequence(t.Context(), "c")
	wanted := Sequence{Context: "c", Name: "delivery", Project: "p", Stage: "dev", Service: "v", Data: []byte(`{"project":"p","service":"v","stage":"dev"}`)}
	if difference := cmp.Diff(wanted, sequence); err != nil || difference != "" {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	if _, err := client.Sequence(t.Context(), "unknown"); err == nil || !strings.Contains(err.Error(), "context unknown") {
		t.Errorf("an unknown context: %v", err)
	}
	archive.requests = nil
	if created, err := client.Trigger(t.Context(), sequence); err != nil || created != "new" {
		t.Errorf("triggered %q, %v", created, err)
	}
	if err := client.Abort(t.Context(), "p", "c"); err != nil {
		t.Error(err)
	}
	for index, parts := range [][]string{
		{"POST /v1/event application/json ", `"type":"sh.keptn.event.dev.delivery.triggered"`, `"data":{"project":"p","service":"v","stage":"dev"}`},
		{"POST /controlPlane/v1/sequence/p/c/control application/json ", `{"state":"abort"}`},
	} {
		for _, part := range parts {
			if !strings.Contains(archive.requests[index], part) {
				t.Errorf("%s lacks %s", archive.requests[index], part)
			}
		}
	}
}

func TestConfigurationsOfAllProjectsAreRead(t *testing.T) {
	const files, file = "/resource-service/v1/project/p", "/resource/job%252Fconfig.yaml"
	answers := map[string]string{
		"/controlPlane/v1/project": `{"totalCount":2,"projects":[
			{"projectName":"p","stages":[{"stageName":"dev","services":[{"serviceName":"a"},{"serviceName":"b"}]}]},{"projectName":"empty","stages":[]}]}`,
		files + "/stage/dev/service/a" + file: `{"resourceContent":"YQ=="}`,
		files + "/stage/dev" + file:           `{"resourceContent":"ZGV2"}`,
		files + file:                          `{"resourceContent":"cA=="}`,
	}
	archive := &datastore{answers: answers}
	found, err := archive.client(t).Configurations(t.Context(), "job/config.yaml")
	want := map[string][]byte{"p": []byte("p"), "p/dev": []byte("dev"), "p/dev/a": []byte("a")}
	if difference := cmp.Diff(want, found); err != nil || difference != "" {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	answers[files+"/stage/dev/service/b"+file] = "<html>"
	_, err = archive.client(t).Configurations(t.Context(), "job/config.yaml")
	if err == nil || !strings.Contains(err.Error(), "project p, stage dev, service b") {
		t.Errorf("an unreadable file: %v", err)
	}
	delete(answers, "/controlPlane/v1/project")
	if found, err := archive.client(t).Configurations(t.Context(), "job/config.yaml"); err == nil {
		t.Errorf("without projects: %v", found)
	}
}

func TestPersonReadsIntegrationsAndTheirLog(t *testing.T) {
	answers := map[string]string{
		"/controlPlane/v1/uniform/registration": `[{"id":"1","name":"job-executor"},{"id":"2","name":"job-executor-service"}]`,
		"/controlPlane/v1/log": `{"logs":[{"shkeptncontext":"c","message":"second","time":"2026-11-24T12:00:02Z"},{"shkeptncontext":"d","message":"other"},` +
			`{"shkeptncontext":"c","message":"first","time":"2026-11-24T12:00:01Z"}]}`,
	}
	archive := &datastore{answers: answers}
	integrations, err := archive.client(t).Integrations(t.Context(), "job-executor")
	if err != nil || len(integrations) != 1 || integrations[0].ID != "1" {
		t.Errorf("got %v, %v", integrations, err)
	}
	entries, err := archive.client(t).LogEntries(t.Context(), "c")
	var messages []string
	for _, entry := range entries {
		messages = append(messages, entry.Message)
	}
	if difference := cmp.Diff([]string{"first", "second"}, messages); err != nil || difference != "" {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	for path := range answers {
		answers[path] = "<html>"
	}
	if integrations, err := archive.client(t).Integrations(t.Context(), "job-executor"); err == nil {
		t.Errorf("a page of a proxy: %v", integrations)
	}
	if entries, err := archive.client(t).LogEntries(t.Context(), "c"); err == nil {
		t.Errorf("a page of a proxy: %v", entries)
	}
}
