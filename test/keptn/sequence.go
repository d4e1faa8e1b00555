package keptn

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	shipyard "github.com/keptn/go-utils/pkg/lib/v0_2_0"
)

// message is a Keptn event on the stream.
type message map[string]any

func (m message) text(name string) string {
	value, _ := m[name].(string)
	return value
}

func (m message) data() map[string]any {
	data, _ := m["data"].(map[string]any)
	return data
}

func (m message) dataText(name string) string {
	value, _ := m.data()[name].(string)
	return value
}

// openEvent is a listed triggered event.
type openEvent struct {
	event     message
	execution *execution
}

// execution is one sequence in one stage.
type execution struct {
	id          string
	project     *project
	stage       string
	sequence    shipyard.Sequence
	scope       map[string]any
	context     string
	triggeredID string
	input       map[string]any
	commit      string
	triggeredAt time.Time

	state            string
	stateBeforePause string
	stageState       string
	latest           message
	latestFailed     message
	strays           []message // the latest events of another stage
	previous         []taskResult
	current          currentTask
	waitingDispatch  *openEvent
}

type taskResult struct {
	name, triggeredID, result, status string
	properties                        map[string]any
}

type currentTask struct {
	name, triggeredID string
	events            []taskEvent
}

type taskEvent struct {
	eventType, source, result, status, time string
	properties                              map[string]any
}

// The states of a sequence.
const (
	started  = "started"
	finished = "finished"
	waiting  = "waiting"
	paused   = "paused"
	aborted  = "aborted"
	timedOut = "timedOut"
)

const controllerSource = "shipyard-controller"

// Handle handles an event of the stream like shipyard-controller. It drops garbage (recording 51-nats-odd).
func (s *Server) Handle(content []byte) {
	var event message
	if json.Unmarshal(content, &event) != nil || event.text("type") == "" {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	parts := strings.Split(event.text("type"), ".")
	if len(parts) == 5 && parts[4] != "triggered" && event.text("source") != controllerSource {
		s.answered[event.text("triggeredid")] = true
	}
	switch {
	case event.text("source") == controllerSource, s.options.Drop(event.text("type")):
	case len(parts) == 6 && parts[5] == "triggered":
		s.trigger(event, parts[3], parts[4])
	case len(parts) == 5 && (parts[4] == "started" || parts[4] == "finished"):
		s.count(event, parts[4])
	}
}

// trigger starts a sequence, or queues it behind one of the same service and stage.
func (s *Server) trigger(event message, stage, name string) {
	project, sequence, problem := s.find(event.dataText("project"), stage, name)
	run := &execution{
		id: s.options.NewID(), project: project, stage: stage, sequence: shipyard.Sequence{Name: name},
		context: event.text("shkeptncontext"), triggeredID: event.text("id"), input: event.data(),
		triggeredAt: time.Now(), state: started,
	}
	run.scope = map[string]any{
		"project": event.dataText("project"), "stage": event.dataText("stage"), "service": event.dataText("service"),
		"keptnContext": run.context, "triggeredId": run.triggeredID, "eventType": event.text("type"),
	}
	if labels, ok := event.data()["labels"]; ok {
		run.scope["labels"] = labels
	}
	s.executions = append(s.executions, run)
	if problem != "" {
		run.end("errored", "fail", problem, s)
		return
	}
	run.sequence = *sequence
	if run.commit = event.text("gitcommitid"); run.commit == "" {
		run.commit = project.head()
	}
	run.scope["gitcommitid"] = run.commit
	if s.isBlocked(run) {
		run.state = waiting
		return
	}
	s.next(run)
}

func (e *execution) blocks(other *execution) bool {
	return e.project == other.project && e.stage == other.stage && e.input["service"] == other.input["service"] &&
		(e.state == started || e.state == paused)
}

// find returns a sequence, or Keptn's error (recording 48-no-such-sequence).
func (s *Server) find(projectName, stageName, sequenceName string) (*project, *shipyard.Sequence, string) {
	project := s.projects[projectName]
	if project == nil {
		return nil, nil, "Unable to retrieve Shipyard file: could not retrieve shipyard.yaml for project " + projectName + ": Resource not found"
	}
	problem := "Unable to start sequence " + sequenceName + ": "
	for _, stage := range project.shipyard.Spec.Stages {
		if stage.Name != stageName {
			continue
		}
		for index := range stage.Sequences {
			if stage.Sequences[index].Name == sequenceName {
				return project, &stage.Sequences[index], ""
			}
		}
		return nil, nil, problem + "no task sequence with name " + sequenceName + " found in stage " + stageName
	}
	return nil, nil, problem + "no stage with name " + stageName
}

// next lists the execution's next task and dispatches it after a delay, or ends the sequence after its last
// task.
func (s *Server) next(run *execution) {
	index := len(run.previous)
	if index == len(run.sequence.Tasks) {
		last := run.previous[index-1]
		run.end(last.status, last.result, last.properties["message"], s)
		return
	}
	task := run.sequence.Tasks[index]
	if data := run.taskData(task); !isStorable(data, 0) {
		return // the sequence stays open for ever
	}
	event := message{
		"type": "sh.keptn.event." + task.Name + ".triggered", "source": controllerSource, "id": s.options.NewID(),
		"time": s.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "shkeptnspecversion": "0.2.4",
		"shkeptncontext": run.context, "gitcommitid": run.commit, "data": run.taskData(task),
	}
	listed := &openEvent{event: event, execution: run}
	s.open = append(s.open, listed)
	run.latest, run.stageState = event, "triggered"
	run.waitingDispatch = listed
	s.expect(run, event)
	if run.state == paused {
		// It is not published, but events count for it (recording 45-pause-started-while-paused).
		run.setCurrent(event)
		return
	}
	published := maps.Clone(event)
	published["datacontenttype"] = "application/json"
	s.dispatchLater(run, published)
}

// expect makes a sequence time out unless somebody answers its task in time. Any answer counts, even one that
// is not counted (recordings 31 and 70).
func (s *Server) expect(run *execution, event message) {
	if s.options.StartedWait == 0 {
		return
	}
	time.AfterFunc(s.options.StartedWait, func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if run.state != started || run.current.triggeredID != event.text("id") || s.answered[event.text("id")] {
			return
		}
		run.end("errored", "fail", "sequence timed out while waiting for task "+event.text("type")+" to receive a correlating .started or .finished event", s)
		run.state = timedOut
	})
}

func (e *execution) setCurrent(event message) {
	e.current = currentTask{name: strings.Split(event.text("type"), ".")[3], triggeredID: event.text("id")}
}

func (s *Server) dispatchLater(run *execution, published message) {
	listed := run.waitingDispatch
	time.AfterFunc(s.options.DispatchDelay, func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if listed != nil && run.waitingDispatch == listed && run.state == started {
			run.waitingDispatch = nil
			if run.current.triggeredID != published.text("id") { // otherwise it was published while paused
				run.setCurrent(published)
			}
			s.publish(published)
		}
	})
}

// taskData returns a task's input: the sequence's, the data of finished events, the last status and result, and
// the task's properties (recording 10-chain).
func (e *execution) taskData(task shipyard.Task) map[string]any {
	data := clone(e.input)
	_, hasMessage := data["message"]
	for _, previous := range e.previous {
		if own, ok := previous.properties[previous.name]; ok {
			data[previous.name] = own
		}
		if labels, ok := previous.properties["labels"].(map[string]any); ok {
			merged, _ := clone(data)["labels"].(map[string]any)
			if merged == nil {
				merged = map[string]any{}
			}
			maps.Copy(merged, labels)
			data["labels"] = merged
		}
		_, said := previous.properties["message"]
		hasMessage = hasMessage || said
		data["status"], data["result"] = previous.status, previous.result
	}
	if hasMessage {
		data["message"] = ""
	}
	if task.Properties != nil {
		data[task.Name] = task.Properties
	}
	return data
}

func clone(value map[string]any) map[string]any {
	content, _ := json.Marshal(value)
	copied := map[string]any{}
	_ = json.Unmarshal(content, &copied)
	return copied
}

// count counts a started or finished event for the current task of the context, if Keptn does (recording
// 29-bad-started). It ignores another task's name or stage and a missing triggeredid, but not an unknown
// triggeredid.
func (s *Server) count(event message, phase string) {
	if event.dataText("project") == "" || event.dataText("stage") == "" {
		return
	}
	for _, run := range slices.Backward(s.executions) {
		if run.context != event.text("shkeptncontext") {
			continue
		}
		triggeredID := event.text("triggeredid")
		if run.current.triggeredID == "" || (triggeredID != "" && triggeredID != run.current.triggeredID) {
			continue
		}
		if stage := event.dataText("stage"); stage != run.stage {
			run.strays = append(slices.DeleteFunc(run.strays, func(other message) bool { return other.dataText("stage") == stage }), event)
		} else {
			run.latest, run.stageState = event, "triggered"
		}
		s.options.Counted(run.current.triggeredID, event.text("type"), event.text("source"))
		run.current.events = append(run.current.events, taskEvent{
			eventType: event.text("type"), source: event.text("source"), time: event.text("time"),
			result: event.dataText("result"), status: event.dataText("status"), properties: finishedProperties(event, phase),
		})
		if run.state == started || run.state == paused {
			s.complete(run)
		}
		return
	}
}

func finishedProperties(event message, phase string) map[string]any {
	if phase != finished {
		return nil
	}
	return event.data()
}

// complete continues when as many finished as started events are counted. The worst result wins (recording
// 26-two-executors).
func (s *Server) complete(run *execution) {
	var starts, ends int
	result, status := "pass", "succeeded"
	var properties map[string]any
	for _, counted := range run.current.events {
		// The event that completes the task has the message, even if it is a late started event (recording
		// 22-finished-before-started).
		properties = counted.properties
		if strings.HasSuffix(counted.eventType, ".started") {
			starts++
			continue
		}
		ends++
		switch {
		case counted.result == "pass", counted.result == "warning" && result == "pass":
			if counted.result == "warning" {
				result = "warning"
			}
		case counted.result != "warning":
			result = "fail"
		}
		switch counted.status {
		case "succeeded":
		case "errored":
			status = "errored"
		default:
			status, result = "unknown", "fail"
		}
	}
	if starts == 0 || starts != ends {
		return
	}
	task := run.current
	s.unlist(task.triggeredID)
	run.previous = append(run.previous, taskResult{name: task.name, triggeredID: task.triggeredID, result: result, status: status, properties: properties})
	run.current = currentTask{}
	if status != "succeeded" || result == "fail" {
		run.end(status, result, properties["message"], s)
		return
	}
	s.next(run)
}

func (s *Server) unlist(triggeredID string) {
	s.open = slices.DeleteFunc(s.open, func(listed *openEvent) bool { return listed.event.text("id") == triggeredID })
}

// end ends a sequence and starts the next one in its queue.
func (e *execution) end(status, result string, text any, keptn *Server) {
	keptn.open = slices.DeleteFunc(keptn.open, func(listed *openEvent) bool { return listed.execution == e })
	e.waitingDispatch = nil
	e.state, e.stageState = finished, status
	data := map[string]any{
		"project": e.input["project"], "stage": e.input["stage"], "service": e.input["service"], "status": status, "result": result,
	}
	if text != nil && text != "" {
		data["message"] = text
	}
	event := keptn.controllerEvent(e.stage+"."+e.sequence.Name+".finished", e.context, data)
	event["triggeredid"] = e.triggeredID
	e.latest = event
	if result == "fail" || status == "errored" {
		e.latestFailed = event
	}
	keptn.publish(event)
	keptn.startWaiting()
	if result == "pass" && status == "succeeded" {
		e.startNext(keptn)
	}
}

// startNext starts the sequences that this one triggers, in the same Keptn context. There is no recording; this
// follows Keptn's documentation of triggeredOn, without selectors.
func (e *execution) startNext(keptn *Server) {
	ended := e.stage + "." + e.sequence.Name + ".finished"
	for _, stage := range e.project.shipyard.Spec.Stages {
		for _, sequence := range stage.Sequences {
			if !slices.ContainsFunc(sequence.TriggeredOn, func(trigger shipyard.Trigger) bool { return trigger.Event == ended }) {
				continue
			}
			data := clone(e.input)
			data["stage"] = stage.Name
			event := keptn.controllerEvent(stage.Name+"."+sequence.Name+".triggered", e.context, data)
			keptn.publish(event)
			keptn.trigger(event, stage.Name, sequence.Name)
		}
	}
}

// startWaiting starts queued sequences that can run now.
func (s *Server) startWaiting() {
	for _, run := range s.executions {
		if run.state == waiting && !s.isBlocked(run) {
			run.state = started
			s.next(run)
		}
	}
}

func (s *Server) isBlocked(run *execution) bool {
	return slices.ContainsFunc(s.executions, func(other *execution) bool { return other != run && other.blocks(run) })
}

// control aborts, pauses or resumes the sequences of a Keptn context.
func (s *Server) control(keptnContext, wanted string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, run := range s.executions {
		if run.context != keptnContext || run.state == finished || run.state == aborted {
			continue
		}
		switch wanted {
		case "abort":
			run.end(aborted, "pass", nil, s)
			run.state = aborted
		case "pause":
			run.stateBeforePause, run.state = run.state, paused
		case "resume":
			if run.state == paused {
				run.state = run.stateBeforePause
				s.startWaiting()
				if run.waitingDispatch != nil {
					// It comes from the queue, and so without its content type (recording 44-pause-resume).
					s.dispatchLater(run, run.waitingDispatch.event)
				}
			}
		}
	}
}

// controllerEvent returns an event of shipyard-controller of a type below sh.keptn.event.
func (s *Server) controllerEvent(what, keptnContext string, data map[string]any) message {
	return message{
		"type": "sh.keptn.event." + what, "source": controllerSource, "id": s.options.NewID(),
		"time": s.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "shkeptnspecversion": "0.2.4",
		"shkeptncontext": keptnContext, "datacontenttype": "application/json", "data": data,
	}
}

// publish publishes an event like shipyard-controller: it does not wait for an acknowledgement.
func (s *Server) publish(event message) {
	content, err := json.Marshal(event)
	if err == nil {
		err = s.publisher(event.text("type"), content)
	}
	if err != nil {
		s.options.Log.Warn("publishing failed", "type", event.text("type"), "error", err)
	}
}
