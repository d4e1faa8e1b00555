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

// count is told what Keptn counts.
func (world *world) count(triggeredID, eventType, source string) {
	_, phase, _ := keptn.ParseType(eventType)
	world.note("Keptn counts %s of %s by %s", eventType, triggeredID, source)
	if source == rival || source == lighthouse {
		return
	}
	world.mutex.Lock()
	world.counted[triggeredID] = append(world.counted[triggeredID], phase)
	counted := slices.Clone(world.counted[triggeredID])
	if phase == keptn.Finished {
		world.closed[triggeredID] = time.Now()
	}
	rivaled := world.rivals[triggeredID]
	world.mutex.Unlock()
	if !strings.HasPrefix(source, keptn.Source) || !world.isLegal(counted, rivaled) {
		world.violate("Keptn counted %v of %s for task %s", counted, source, triggeredID)
	}
}

// lighthouse answers evaluations, and asks for SLIs by events of its own.
const lighthouse = "lighthouse-service"

// isLegal says whether Keptn may have counted these of a task so far: one started event
// and then one finished. A clock that jumps may double both, so that the task ends all
// the same.
func (world *world) isLegal(counted []keptn.Phase, rivaled bool) bool {
	const started, finished = keptn.Started, keptn.Finished
	if !world.skewed {
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

// jobStarted is told of each pod of a Job that starts.
func (world *world) jobStarted(job *batchv1.Job) {
	world.note("Job %s starts", job.Name)
	world.mutex.Lock()
	world.starts[job.Name]++
	starts := world.starts[job.Name]
	var early []string
	for name, began := range world.starts {
		// Within an action the one before has to have succeeded, but for a parallel one;
		// between actions to have ended.
		bad := world.ends[name] == "" && world.fates[name] == embedded.Runs
		if actionOf(name) == actionOf(job.Name) {
			bad = world.ends[name] != succeeded && !isParallel(name)
		}
		if began > 0 && name < job.Name && runOf(name) == runOf(job.Name) && bad {
			early = append(early, name)
		}
	}
	world.mutex.Unlock()
	if starts > 1 {
		world.note("Job %s starts for the %dth time", job.Name, starts)
	}
	if random := world.chance.draw("pod of %s", job.Name); world.deletesPod(random) {
		go world.deletePod(job, random)
	}
	if world.capped {
		if active := world.active(); active > maxActiveRuns {
			world.violate("%d runs are active at a time, as Job %s starts, although %d may be", active, job.Name, maxActiveRuns)
		}
	}
	if len(early) > 0 && !world.isTouched(job.Name) {
		world.violate("Job %s starts although %v did not succeed, or has not ended", job.Name, early)
	}
}

// maxActiveRuns is how many runs of the project may be active at a time in a world that is capped.
const maxActiveRuns = 8

// active is how many runs have begun, and are not over, as Kubernetes sees it. Those do not count of which
// others have resumed a Job, or suspended one.
func (world *world) active() int {
	begun, goesOn := map[string]bool{}, map[string]bool{}
	for _, namespace := range world.namespaces() {
		jobs, err := world.cluster.Client(nil).BatchV1().Jobs(namespace).List(world.ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			continue // the namespace is deleted
		}
		for index := range jobs.Items {
			job := &jobs.Items[index]
			if world.isTouched(job.Name) {
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

// observe is told of each delivery of the Broker: a run may be cancelled only if its
// sequence was aborted, or its task is completed.
func (world *world) observe(delivery embedded.Delivery) {
	world.searchLeaks("event "+delivery.Event.Type(), delivery.Event.Data())
	_, phase, _ := keptn.ParseType(delivery.Event.Type())
	if isGiven := phase == keptn.Triggered || delivery.Event.Type() == keptn.ObservedType; isGiven && delivery.Err != nil {
		world.mutex.Lock()
		world.undelivered[delivery.Event.ID()] = true
		world.mutex.Unlock()
	}
	if delivery.Event.Type() != protocol.CancelledType {
		return
	}
	notice, err := protocol.NoticeOf(delivery.Event, protocol.CancelledType)
	runID := notice.RunID
	world.mutex.Lock()
	aborted := world.aborted[world.contexts[runOf(run.Name(runID, 0, 0))]]
	completed := !world.closed[runID].IsZero() || world.rivals[runID]
	world.mutex.Unlock()
	if err != nil || !aborted && !completed {
		world.violate("run %s is cancelled although its task is wanted: %v", runID, err)
	}
}

// runOf is a Job's name without the numbers of its action and task.
func runOf(job string) string { return job[:len(job)-len("-000-000")] }

func actionOf(job string) string { return job[:len(job)-len("-000")] }
