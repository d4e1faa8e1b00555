package keptn

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	shipyard "github.com/keptn/go-utils/pkg/lib/v0_2_0"
)

// message is a Keptn event as it stands on the stream.
type message map[string]any

func (event message) text(name string) string {
	value, _ := event[name].(string)
	return value
}

func (event message) data() map[string]any {
	data, _ := event["data"].(map[string]any)
	return data
}

func (event message) dataText(name string) string {
	value, _ := event.data()[name].(string)
	return value
}

// openEvent is a triggered event that is listed.
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
	strays           []message // the latest events that named another stage
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

// Handle is what shipyard-controller does with an event of the stream. Garbage
// is dropped (recording 51-nats-odd).
func (keptn *Server) Handle(content []byte) {
	var event message
	if json.Unmarshal(content, &event) != nil || event.text("type") == "" {
		return
	}
	keptn.mutex.Lock()
	defer keptn.mutex.Unlock()
	parts := strings.Split(event.text("type"), ".")
	if len(parts) == 5 && parts[4] != "triggered" && event.text("source") != controllerSource {
		keptn.answered[event.text("triggeredid")] = true
	}
	switch {
	case event.text("source") == controllerSource, keptn.options.Drop(event.text("type")):
	case len(parts) == 6 && parts[5] == "triggered":
		keptn.trigger(event, parts[3], parts[4])
	case len(parts) == 5 && (parts[4] == "started" || parts[4] == "finished"):
		keptn.count(event, parts[4])
	}
}

// trigger starts a sequence, or lets it wait for one that runs on the same
// service in the same stage.
func (keptn *Server) trigger(event message, stage, name string) {
	project, sequence, problem := keptn.find(event.dataText("project"), stage, name)
	run := &execution{
		id: keptn.options.NewID(), project: project, stage: stage, sequence: shipyard.Sequence{Name: name},
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
	keptn.executions = append(keptn.executions, run)
	if problem != "" {
		run.end("errored", "fail", problem, keptn)
		return
	}
	run.sequence = *sequence
	if run.commit = event.text("gitcommitid"); run.commit == "" {
		run.commit = project.head()
	}
	run.scope["gitcommitid"] = run.commit
	if keptn.isBlocked(run) {
		run.state = waiting
		return
	}
	keptn.next(run)
}

func (run *execution) blocks(other *execution) bool {
	return run.project == other.project && run.stage == other.stage && run.input["service"] == other.input["service"] &&
		(run.state == started || run.state == paused)
}

// find returns a sequence, or the problem that Keptn has with it (recording
// 48-no-such-sequence).
func (keptn *Server) find(projectName, stageName, sequenceName string) (*project, *shipyard.Sequence, string) {
	project := keptn.projects[projectName]
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

// next lists the execution's next task, and dispatches it after a while; or ends
// the sequence after its last.
func (keptn *Server) next(run *execution) {
	index := len(run.previous)
	if index == len(run.sequence.Tasks) {
		last := run.previous[index-1]
		run.end(last.status, last.result, last.properties["message"], keptn)
		return
	}
	task := run.sequence.Tasks[index]
	if data := run.taskData(task); !isStorable(data, 0) {
		return // the sequence stays open for ever
	}
	event := message{
		"type": "sh.keptn.event." + task.Name + ".triggered", "source": controllerSource, "id": keptn.options.NewID(),
		"time": keptn.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "shkeptnspecversion": "0.2.4",
		"shkeptncontext": run.context, "gitcommitid": run.commit, "data": run.taskData(task),
	}
	listed := &openEvent{event: event, execution: run}
	keptn.open = append(keptn.open, listed)
	run.latest, run.stageState = event, "triggered"
	run.waitingDispatch = listed
	keptn.expect(run, event)
	if run.state == paused {
		// Not published, but counted for (recording 45-pause-started-while-paused).
		run.setCurrent(event)
		return
	}
	published := maps.Clone(event)
	published["datacontenttype"] = "application/json"
	keptn.dispatchLater(run, published)
}

// expect has a sequence time out unless somebody answers its task in time: any
// answer will do, even one that is not counted (recordings 31 and 70).
func (keptn *Server) expect(run *execution, event message) {
	if keptn.options.StartedWait == 0 {
		return
	}
	time.AfterFunc(keptn.options.StartedWait, func() {
		keptn.mutex.Lock()
		defer keptn.mutex.Unlock()
		if run.state != started || run.current.triggeredID != event.text("id") || keptn.answered[event.text("id")] {
			return
		}
		run.end("errored", "fail", "sequence timed out while waiting for task "+event.text("type")+" to receive a correlating .started or .finished event", keptn)
		run.state = timedOut
	})
}

func (run *execution) setCurrent(event message) {
	run.current = currentTask{name: strings.Split(event.text("type"), ".")[3], triggeredID: event.text("id")}
}

func (keptn *Server) dispatchLater(run *execution, published message) {
	listed := run.waitingDispatch
	time.AfterFunc(keptn.options.DispatchDelay, func() {
		keptn.mutex.Lock()
		defer keptn.mutex.Unlock()
		if listed != nil && run.waitingDispatch == listed && run.state == started {
			run.waitingDispatch = nil
			if run.current.triggeredID != published.text("id") { // else it was while paused
				run.setCurrent(published)
			}
			keptn.publish(published)
		}
	})
}

// taskData is a task's input: the sequence's, what finished events added, the
// last status and result, and the task's own properties (recording 10-chain).
func (run *execution) taskData(task shipyard.Task) map[string]any {
	data := clone(run.input)
	_, hasMessage := data["message"]
	for _, previous := range run.previous {
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

// count counts a started or finished event for the current task of the context,
// if Keptn does (recording 29-bad-started): another task's name or stage and a
// missing triggeredid do not matter to it, an unknown triggeredid does.
func (keptn *Server) count(event message, phase string) {
	if event.dataText("project") == "" || event.dataText("stage") == "" {
		return
	}
	for _, run := range slices.Backward(keptn.executions) {
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
		keptn.options.Counted(run.current.triggeredID, event.text("type"), event.text("source"))
		run.current.events = append(run.current.events, taskEvent{
			eventType: event.text("type"), source: event.text("source"), time: event.text("time"),
			result: event.dataText("result"), status: event.dataText("status"), properties: finishedProperties(event, phase),
		})
		if run.state == started || run.state == paused {
			keptn.complete(run)
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

// complete goes on when as many finished as started events were counted. The
// worst result wins (recording 26-two-executors).
func (keptn *Server) complete(run *execution) {
	var starts, ends int
	result, status := "pass", "succeeded"
	var properties map[string]any
	for _, counted := range run.current.events {
		// The event that completes the task gives the message, even if that is a
		// started event which came last (recording 22-finished-before-started).
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
	keptn.unlist(task.triggeredID)
	run.previous = append(run.previous, taskResult{name: task.name, triggeredID: task.triggeredID, result: result, status: status, properties: properties})
	run.current = currentTask{}
	if status != "succeeded" || result == "fail" {
		run.end(status, result, properties["message"], keptn)
		return
	}
	keptn.next(run)
}

func (keptn *Server) unlist(triggeredID string) {
	keptn.open = slices.DeleteFunc(keptn.open, func(listed *openEvent) bool { return listed.event.text("id") == triggeredID })
}

// end ends a sequence and starts the one that waits for it.
func (run *execution) end(status, result string, text any, keptn *Server) {
	keptn.open = slices.DeleteFunc(keptn.open, func(listed *openEvent) bool { return listed.execution == run })
	run.waitingDispatch = nil
	run.state, run.stageState = finished, status
	data := map[string]any{
		"project": run.input["project"], "stage": run.input["stage"], "service": run.input["service"], "status": status, "result": result,
	}
	if text != nil && text != "" {
		data["message"] = text
	}
	event := keptn.controllerEvent(run.stage+"."+run.sequence.Name+".finished", run.context, data)
	event["triggeredid"] = run.triggeredID
	run.latest = event
	if result == "fail" || status == "errored" {
		run.latestFailed = event
	}
	keptn.publish(event)
	keptn.startWaiting()
	if result == "pass" && status == "succeeded" {
		run.startNext(keptn)
	}
}

// startNext starts the sequences that are triggered by the end of this one, in the
// same Keptn context. (It is not recorded; this is what Keptn documents of
// triggeredOn, without selectors.)
func (run *execution) startNext(keptn *Server) {
	ended := run.stage + "." + run.sequence.Name + ".finished"
	for _, stage := range run.project.shipyard.Spec.Stages {
		for _, sequence := range stage.Sequences {
			if !slices.ContainsFunc(sequence.TriggeredOn, func(trigger shipyard.Trigger) bool { return trigger.Event == ended }) {
				continue
			}
			data := clone(run.input)
			data["stage"] = stage.Name
			event := keptn.controllerEvent(stage.Name+"."+sequence.Name+".triggered", run.context, data)
			keptn.publish(event)
			keptn.trigger(event, stage.Name, sequence.Name)
		}
	}
}

// startWaiting starts the sequences that wait for none any more.
func (keptn *Server) startWaiting() {
	for _, run := range keptn.executions {
		if run.state == waiting && !keptn.isBlocked(run) {
			run.state = started
			keptn.next(run)
		}
	}
}

func (keptn *Server) isBlocked(run *execution) bool {
	return slices.ContainsFunc(keptn.executions, func(other *execution) bool { return other != run && other.blocks(run) })
}

// control aborts, pauses or resumes the sequences of a Keptn context.
func (keptn *Server) control(keptnContext, wanted string) {
	keptn.mutex.Lock()
	defer keptn.mutex.Unlock()
	for _, run := range keptn.executions {
		if run.context != keptnContext || run.state == finished || run.state == aborted {
			continue
		}
		switch wanted {
		case "abort":
			run.end(aborted, "pass", nil, keptn)
			run.state = aborted
		case "pause":
			run.stateBeforePause, run.state = run.state, paused
		case "resume":
			if run.state == paused {
				run.state = run.stateBeforePause
				keptn.startWaiting()
				if run.waitingDispatch != nil {
					// From the queue, and so without its content type (recording 44-pause-resume).
					keptn.dispatchLater(run, run.waitingDispatch.event)
				}
			}
		}
	}
}

// controllerEvent is an event of shipyard-controller, of a type below sh.keptn.event.
func (keptn *Server) controllerEvent(what, keptnContext string, data map[string]any) message {
	return message{
		"type": "sh.keptn.event." + what, "source": controllerSource, "id": keptn.options.NewID(),
		"time": keptn.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "shkeptnspecversion": "0.2.4",
		"shkeptncontext": keptnContext, "datacontenttype": "application/json", "data": data,
	}
}

// publish puts an event on the stream as shipyard-controller does: without
// waiting for an acknowledgement.
func (keptn *Server) publish(event message) {
	content, err := json.Marshal(event)
	if err == nil {
		err = keptn.publisher(event.text("type"), content)
	}
	if err != nil {
		keptn.options.Log.Warn("publishing failed", "type", event.text("type"), "error", err)
	}
}
