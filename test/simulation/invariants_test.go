package simulation

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/embedded"
)

// count is called for each event that Keptn counts.
func (w *world) count(triggeredID, eventType, source string) {
	_, phase, _ := keptn.ParseType(eventType)
	w.note("Keptn counts %s of %s by %s", eventType, triggeredID, source)
	if source == rival || source == lighthouse {
		return
	}
	w.mutex.Lock()
	w.counted[triggeredID] = append(w.counted[triggeredID], phase)
	counted := slices.Clone(w.counted[triggeredID])
	if phase == keptn.Finished {
		w.closed[triggeredID] = time.Now()
	}
	rivaled, missed := w.rivals[triggeredID], len(w.missed[triggeredID]) > 0
	w.mutex.Unlock()
	if missed && times(counted, phase) > 1 {
		w.happen("Keptn counted twice what mongodb-datastore never got")
	}
	if !strings.HasPrefix(source, keptn.Source) || !w.isLegal(counted, rivaled, missed) {
		w.violate("Keptn counted %v of %s for task %s", counted, source, triggeredID)
	}
}

// lighthouse answers evaluations, and asks for SLIs by events of its own.
const lighthouse = "lighthouse-service"

// isLegal reports whether Keptn may have counted these phases of a task so far: one started event and then one
// finished. After a jump of a clock, or if mongodb-datastore missed an answer, both may be doubled, so that the
// task still ends.
func (w *world) isLegal(counted []keptn.Phase, rivaled, missed bool) bool {
	const started, finished = keptn.Started, keptn.Finished
	if !missed {
		return slices.Equal(counted, []keptn.Phase{started}) || slices.Equal(counted, []keptn.Phase{started, finished})
	}
	return counted[0] == started && (rivaled || times(counted, finished) <= times(counted, started))
}

func times(counted []keptn.Phase, phase keptn.Phase) (number int) {
	for _, other := range counted {
		if other == phase {
			number++
		}
	}
	return number
}

// jobStarted is called for each started pod of a Job.
func (w *world) jobStarted(job *batchv1.Job) {
	w.note("Job %s starts", job.Name)
	w.mutex.Lock()
	w.starts[job.Name]++
	starts := w.starts[job.Name]
	var early []string
	for name, began := range w.starts {
		// Within an action the previous Job must have succeeded, unless the action is parallel. Between actions it
		// must have ended.
		bad := w.ends[name] == "" && w.fates[name] == embedded.Runs
		if actionOf(name) == actionOf(job.Name) {
			bad = w.ends[name] != succeeded && !isParallel(name)
		}
		if began > 0 && name < job.Name && runOf(name) == runOf(job.Name) && bad {
			early = append(early, name)
		}
	}
	w.mutex.Unlock()
	if starts > 1 {
		w.note("Job %s starts for the %dth time", job.Name, starts)
	}
	if random := w.chance.draw("pod of %s", job.Name); w.deletesPod(random) {
		go w.deletePod(job, random)
	}
	if w.capped {
		if active := w.active(); active > maxActiveRuns {
			w.violate("%d runs are active at a time, as Job %s starts, although %d may be", active, job.Name, maxActiveRuns)
		}
	}
	if len(early) > 0 && !w.isTouched(job.Name) {
		w.violate("Job %s starts although %v did not succeed, or has not ended", job.Name, early)
	}
}

// maxActiveRuns is the limit of active runs in a capped world.
const maxActiveRuns = 8

// active returns how many runs have begun and not ended, according to Kubernetes. Runs whose Jobs others
// resumed or suspended do not count.
func (w *world) active() int {
	begun, goesOn := map[string]bool{}, map[string]bool{}
	for _, namespace := range w.namespaces() {
		jobs, err := w.cluster.Client(nil).BatchV1().Jobs(namespace).List(w.ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			continue // the namespace is deleted
		}
		for index := range jobs.Items {
			job := &jobs.Items[index]
			if w.isTouched(job.Name) {
				continue
			}
			begun[runOf(job.Name)] = begun[runOf(job.Name)] || run.PhaseOf(job) != run.Waiting
			goesOn[runOf(job.Name)] = goesOn[runOf(job.Name)] || run.IsActive(job)
		}
	}
	count := 0
	for runID := range begun {
		if begun[runID] && goesOn[runID] {
			count++
		}
	}
	return count
}

// observe is called for each delivery of the Broker. A run may only be cancelled if its sequence was aborted,
// or its task is completed.
func (w *world) observe(delivery embedded.Delivery) {
	w.searchLeaks("event "+delivery.Event.Type(), delivery.Event.Data())
	_, phase, _ := keptn.ParseType(delivery.Event.Type())
	if isGiven := phase == keptn.Triggered || delivery.Event.Type() == keptn.ObservedType; isGiven && delivery.Err != nil {
		w.mutex.Lock()
		w.undelivered[keptn.Unwrap(delivery.Event).ID()] = true
		w.mutex.Unlock()
	}
	if delivery.Event.Type() != protocol.CancelledType {
		return
	}
	notice, err := protocol.NoticeOf(delivery.Event, protocol.CancelledType)
	runID := notice.RunID
	w.mutex.Lock()
	aborted := w.aborted[w.contexts[runOf(run.Name(runID, 0, 0))]]
	completed := !w.closed[runID].IsZero() || w.rivals[runID]
	w.mutex.Unlock()
	if err != nil || !aborted && !completed {
		w.violate("run %s is cancelled although its task is wanted: %v", runID, err)
	}
}

// runOf returns a Job's name without the numbers of its action and task.
func runOf(job string) string { return job[:len(job)-len("-000-000")] }

func actionOf(job string) string { return job[:len(job)-len("-000")] }
