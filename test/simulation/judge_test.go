package simulation

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/embedded"
)

type sequenceState struct {
	Context string `json:"shkeptncontext"`
	State   string `json:"state"`
}

func (s sequenceState) isOver() bool {
	return s.State == "finished" || s.State == "aborted"
}

func (w *world) sequences(query string) []sequenceState {
	var answer struct{ States []sequenceState }
	w.ask(http.MethodGet, "/controlPlane/v1/sequence/"+project+query, nil, &answer)
	return answer.States
}

// isOver reports whether a sequence has ended.
func (w *world) isOver(keptnContext string) bool {
	return slices.ContainsFunc(w.sequences("?keptnContext="+keptnContext), sequenceState.isOver)
}

// unended returns the sequences and the Jobs that have not ended.
func (w *world) unended() []string {
	var unended []string
	for _, sequence := range w.sequences("") {
		if !sequence.isOver() {
			unended = append(unended, "sequence "+sequence.Context+" is "+sequence.State)
		}
	}
	jobs, err := w.cluster.Client(nil).BatchV1().Jobs("").List(w.ctx, metav1.ListOptions{LabelSelector: run.Selector})
	if err != nil {
		return append(unended, err.Error())
	}
	for index := range jobs.Items {
		unended = append(unended, fmt.Sprintf("Job %s is %s", jobs.Items[index].Name, run.PhaseOf(&jobs.Items[index])))
	}
	slices.Sort(unended)
	return unended
}

// heal waits until everything has ended. Faults are over by then.
func (w *world) heal() {
	deadline := time.Now().Add(healLimit)
	for {
		unended := w.unended()
		if len(unended) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.violate("%d have not ended: %s", len(unended), strings.Join(unended[:min(len(unended), 5)], "; "))
			return
		}
		time.Sleep(10 * time.Second)
	}
}

// quiet checks that nothing happens after everything has ended.
func (w *world) quiet() {
	const length = 10 * time.Minute
	underWay := 5 * time.Minute // some things are repeated every two minutes
	if w.stuck {
		underWay = 20 * time.Minute // nine attempts of 85 s at an executor that never answers, and their pauses
	}
	time.Sleep(underWay)
	before := w.volume()
	time.Sleep(length)
	w.judgeQuiet(before, w.volume(), length)
}

type taskEvent struct {
	ID, Type, Source, TriggeredID string
	Context                       string `json:"shkeptncontext"`
	Data                          struct {
		Status, Result, Message string
	}
}

// judge checks how each task ended.
func (w *world) judge() (tasks int) {
	w.judgeTraffic()
	w.judgeSpans()
	var answer struct{ Events []taskEvent }
	w.ask(http.MethodGet, "/mongodb-datastore/event", nil, &answer)
	finished := map[string]taskEvent{}
	w.mutex.Lock()
	answers := slices.Concat(append(slices.Collect(maps.Values(w.missed)), answer.Events)...)
	w.mutex.Unlock()
	for _, event := range answers {
		if _, phase, ok := keptn.ParseType(event.Type); ok && phase == keptn.Finished && strings.HasPrefix(event.Source, keptn.Source) {
			finished[event.TriggeredID] = event
		}
	}
	for _, event := range answer.Events {
		name, phase, ok := keptn.ParseType(event.Type)
		if event.Type == observedType {
			w.judgeObserved(event.ID)
		}
		if !ok || phase != keptn.Triggered {
			continue
		}
		tasks++
		if event.Source == lighthouse {
			w.judgeEvaluation(event, answer.Events)
			continue
		}
		w.mutex.Lock()
		counted, aborted := w.counted[event.ID], w.aborted[event.Context]
		// The user may abort between the started and the finished event of a task that is given up.
		abortedAsGivenUp := aborted && w.undelivered[event.ID] && times(counted, keptn.Finished) == 0
		w.mutex.Unlock()
		if jobsOf[name] == 0 && len(counted) > 0 && !gaveUp(finished[event.ID]) && !abortedAsGivenUp {
			w.violate("Keptn counted %v for task %s that nothing matches", counted, event.ID)
		}
		if aborted || jobsOf[name] == 0 {
			// A late delivery may have begun the run again after its task ended. That run was cancelled, or it
			// would still exist.
			continue
		}
		w.mutex.Lock()
		rivaled, missed := w.rivals[event.ID], len(w.missed[event.ID]) > 0
		w.mutex.Unlock()
		if rivaled && len(counted) < 2 { //nolint:mnd // both of ours
			continue // another integration completed the task before Keptn had counted our event
		}
		if len(counted) == 0 || !w.isLegal(counted, rivaled, missed) || times(counted, keptn.Finished) < times(counted, keptn.Started) {
			w.violate("Keptn counted %v for task %s", counted, event.ID)
			continue
		}
		w.mutex.Lock()
		undelivered := w.undelivered[event.ID]
		w.mutex.Unlock()
		if gaveUp(finished[event.ID]) && !undelivered {
			w.violate("task %s was given up, though its executor could take it", event.ID)
		}
		if !gaveUp(finished[event.ID]) {
			w.judgeRuns(name, event.ID)
			w.judgeResult(name, event.ID, finished[event.ID])
		}
	}
	return tasks
}

// judgeEvaluation checks that each question of lighthouse-service, and so its evaluation, was answered exactly
// once.
func (w *world) judgeEvaluation(asked taskEvent, events []taskEvent) {
	counts := map[string]int{}
	for _, event := range events {
		_, phase, _ := keptn.ParseType(event.Type)
		switch {
		case event.TriggeredID == asked.ID && strings.HasPrefix(event.Source, keptn.Source):
			counts["get-sli."+string(phase)]++
		case event.Context == asked.Context && event.Source == lighthouse && phase == keptn.Finished:
			counts["evaluation.finished"]++
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.happened["an evaluation"]++
	if w.aborted[asked.Context] {
		return
	}
	for _, what := range []string{"get-sli.started", "get-sli.finished", "evaluation.finished"} {
		if times := counts[what]; times != 1 && (times == 0 || !w.skewed) {
			w.violations = append(w.violations, fmt.Sprintf("there are %d of %s for the question %s", times, what, asked.ID))
		}
	}
}

// judgeObserved checks how often an observed event's Job has run: at most once, and exactly once if a lossless
// Broker got the event. Over HTTP nobody sees such events.
func (w *world) judgeObserved(id string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	job := run.Name(run.ID(id), 0, 0)
	job = runOf(job) + observing
	starts := w.starts[job]
	if starts > 0 {
		w.happened["a notification"]++
	}
	isLost := w.transport != bridge.NATS || w.asynchronous || w.undelivered[id] || w.touched[runOf(job)] || w.fates[job] != embedded.Runs
	if starts > 1 && !w.touched[runOf(job)] || starts == 0 && !isLost {
		w.violations = append(w.violations, fmt.Sprintf("Job %s of an event that was observed ran %d times", job, starts))
	}
}

// judgeRuns checks how often each Job of a task ran: never twice, and once the run had begun, at least the first
// Job of each action, whatever happened to other actions.
func (w *world) judgeRuns(name, triggeredID string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	jobs := runOf(run.Name(run.ID(triggeredID), 0, 0))
	if w.early[jobs] {
		return // the run may begin again: nobody had reported its beginning
	}
	for _, first := range firstsOf[name] {
		if begun := w.starts[jobs+firstsOf[name][0]] > 0; begun && w.starts[jobs+first] == 0 && w.fates[jobs+first] == embedded.Runs &&
			!w.touched[jobs] {
			w.violations = append(w.violations, fmt.Sprintf("Job %s%s never ran", jobs, first))
		}
	}
	for job, starts := range w.starts {
		if runOf(job) == jobs && starts > 1+retriesOf(job) {
			w.violations = append(w.violations, fmt.Sprintf("Job %s ran %d times", job, starts))
		}
	}
}

// gaveUp reports whether a task ended because the Broker could not deliver its event.
func gaveUp(taskEnd taskEvent) bool {
	return taskEnd.Data.Result == string(keptn.ResultFail) && strings.HasPrefix(taskEnd.Data.Message, "No executor accepted this task")
}

// judgeResult compares Keptn's result with the Jobs' results.
func (w *world) judgeResult(name, triggeredID string, taskEnd taskEvent) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	ended, jobs := map[string]int{}, runOf(run.Name(run.ID(triggeredID), 0, 0))
	want := keptn.ResultPass
	for job, end := range w.ends {
		if runOf(job) != jobs || isSilent(job) {
			continue
		}
		ended[end]++
		switch {
		case end != succeeded || w.verdicts[job] == keptn.ResultFail:
			want = keptn.ResultFail
		case w.verdicts[job] == keptn.ResultWarning && want == keptn.ResultPass:
			want = keptn.ResultWarning
		}
	}
	if ended[succeeded]+ended[failed]+ended[killed] < jobsOf[name] {
		want = keptn.ResultFail
	}
	if taskEnd.Data.Result == string(want) || w.touched[jobs] && taskEnd.Data.Result == string(keptn.ResultFail) {
		return
	}
	w.violations = append(w.violations, fmt.Sprintf("task %s (%s) ended as %s, but its Jobs as %v of %d: %s",
		triggeredID, name, taskEnd.Data.Result, ended, jobsOf[name], taskEnd.Data.Message))
}
