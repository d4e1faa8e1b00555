package simulation

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// shipyard has sequences of two tasks with actions, and of one without.
const shipyard = `apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata: {name: simulated}
spec:
  stages:
    - name: production
      sequences:
        - name: pipeline
          tasks: [{name: deployment}, {name: test}]
        - name: unmatched
          tasks: [{name: approval}]
        - name: evaluated
          tasks: [{name: evaluation}]
`

// slo makes lighthouse-service evaluate, which requests the indicator.
const slo = "objectives: [{sli: m, pass: [{criteria: ['<=2']}]}]\ntotal_score: {pass: '90%'}\n"

// evaluatedService is the service with the SLO file.
var evaluatedService = serviceName(0)

// jobConfig has a task with two Jobs of one action, and one with five Jobs of three actions: a parallel one, a
// silent one, and another.
const jobConfig = `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: prepare, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
      - name: deploy
        image: image
        cmd: [run]
        env: [{name: credentials, valueFrom: secret}]
        ttlSecondsAfterFinished: 60
        maxPollDuration: 60
  - name: Check
    events: [{name: sh.keptn.event.test.triggered}]
    parallel: true
    tasks:
      - {name: check, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
      - {name: verify, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
  - name: Note
    silent: true
    event: sh.keptn.event.test.triggered
    image: image
    cmd: run
    ttlSecondsAfterFinished: 60
    maxPollDuration: 60
  - name: Load
    events: [{name: sh.keptn.event.test.triggered}]
    tasks:
      - {name: warm, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 600}
      - name: load
        image: image
        cmd: [run]
        env: [{name: credentials, valueFrom: secret}]
        ttlSecondsAfterFinished: 60
        maxPollDuration: 60
        namespace: load-tests
        retries: 1
  - name: Observe
    event: sh.keptn.event.test.finished
    image: image
    cmd: run
    ttlSecondsAfterFinished: 60
    maxPollDuration: 60
  - name: Indicators
    event: sh.keptn.event.get-sli.triggered
    image: image
    cmd: run
    ttlSecondsAfterFinished: 60
    maxPollDuration: 60
`

// observedType is the type of an event that triggers no task but runs a Job.
const observedType = "sh.keptn.event.test.finished"

// observing is the end of that Job's name.
const observing = "-004-001"

// jobsOf is the number of Jobs of each task, without silent ones.
var jobsOf = map[string]int{"deployment": 2, "test": 4}

// firstsOf are the ends of the names of the first Jobs of each task's actions, or of all Jobs of a parallel action.
var firstsOf = map[string][]string{"deployment": {"-000-001"}, "test": {"-001-001", "-001-002", "-002-001", "-003-001"}}

// isParallel reports whether a Job belongs to the parallel action.
func isParallel(job string) bool { return strings.HasSuffix(actionOf(job), "-001") }

// retriesOf returns the number of retries of a Job.
func retriesOf(job string) int {
	if strings.HasSuffix(job, "-003-002") {
		return 1
	}
	return 0
}

// isSilent reports whether a Job belongs to the silent action.
func isSilent(job string) bool { return strings.HasSuffix(job, "-002-001") }

// ask calls Keptn's API as its user, without faults.
func (w *world) ask(method, path string, body, answer any) {
	content, err := json.Marshal(body)
	if err == nil {
		var request *http.Request
		request, err = http.NewRequestWithContext(w.ctx, method, "http://keptn/api"+path, bytes.NewReader(content))
		if err == nil {
			request.Header.Set("x-token", token)
			r := &recorder{header: http.Header{}}
			w.keptn.Gateway().ServeHTTP(r, request)
			if answer != nil {
				err = json.Unmarshal(r.body.Bytes(), answer)
			}
		}
	}
	if err != nil {
		w.violate("%s %s: %v", method, path, err)
	}
}

// recorder is an http.ResponseWriter.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(int) {}

func (r *recorder) Write(content []byte) (int, error) { return r.body.Write(content) }

// load triggers sequences; some are aborted or paused for a while.
func (w *world) load() {
	w.ask(http.MethodPut, "/resource-service/v1/project/"+project+"/resource", map[string]any{
		"resources": []map[string]any{{"resourceURI": "job/config.yaml", "resourceContent": []byte(jobConfig)}},
	}, nil)
	w.ask(http.MethodPut, "/resource-service/v1/project/"+project+"/stage/"+stage+"/service/"+evaluatedService+"/resource", map[string]any{
		"resources": []map[string]any{{"resourceURI": "slo.yaml", "resourceContent": []byte(slo)}},
	}, nil)
	var group sync.WaitGroup
	sequences := (w.tasks + 1) / 2
	for index := range sequences {
		group.Go(func() { w.sequence(index, time.Duration(sequences)*interval) })
	}
	group.Wait()
}

func (w *world) sequence(index int, within time.Duration) {
	random := w.chance.draw("sequence %d", index)
	time.Sleep(between(random, 0, within))
	name, service := "pipeline", serviceName(index)
	switch draw := random.Float64(); {
	case draw < 0.03: //nolint:mnd // a few
		name = "unmatched"
	case draw < 0.08: //nolint:mnd // a few
		name, service = "evaluated", evaluatedService
	}
	var answer struct {
		KeptnContext string `json:"keptnContext"`
	}
	w.ask(http.MethodPost, "/v1/event", map[string]any{
		"type": "sh.keptn.event." + stage + "." + name + ".triggered", "source": "user", "specversion": "1.0",
		"data": map[string]string{"project": project, "stage": stage, "service": service},
	}, &answer)
	control := func(state string) {
		w.note("the user says %s to %s", state, answer.KeptnContext)
		w.ask(http.MethodPost, "/controlPlane/v1/sequence/"+project+"/"+answer.KeptnContext+"/control", map[string]string{"state": state}, nil)
	}
	switch draw := random.Float64(); {
	case name == "unmatched", draw < 0.06: //nolint:mnd // a few
		time.Sleep(between(random, 0, 2*time.Minute))
		w.mutex.Lock()
		w.aborted[answer.KeptnContext] = true
		w.mutex.Unlock()
		// After downtime, Keptn may not know the sequence yet.
		deadline := time.Now().Add(healLimit)
		for control("abort"); !w.isOver(answer.KeptnContext) && time.Now().Before(deadline); control("abort") {
			time.Sleep(10 * time.Second)
		}
	case draw < 0.12: //nolint:mnd // a few
		time.Sleep(between(random, 0, time.Minute))
		control("pause")
		time.Sleep(between(random, time.Second, time.Minute))
		control("resume")
	}
}
