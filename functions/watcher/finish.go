package watcher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/watcher/timeline"
)

// memoryTimeout bounds the wait for Memory. After it, the Broker sends the run again: the rest of its time might not be
// enough to finish it, and would be lost for others.
const memoryTimeout = 20 * time.Second

// finish answers for an ended run.
func (w *Watcher) finish(ctx context.Context, asked protocol.Notice, jobs []batchv1.Job, step run.Step) (*event.Event, error) {
	task, err := taskOf([]byte(jobs[0].Annotations[run.TaskAnnotation]))
	if err != nil {
		return nil, function.Permanent(err)
	}
	if w.Memory != nil {
		weight := min(max(int64(len(step.Ran)), w.MinWeight), maxReported)
		waiting, cancel := context.WithTimeout(ctx, memoryTimeout)
		err := w.Memory.Acquire(waiting, weight)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("wait for memory for the logs of run %s: %w", asked.RunID, err)
		}
		defer w.Memory.Release(weight)
	}
	ran, err := w.reports(ctx, step.Ran)
	if err != nil {
		return nil, err
	}
	var reports, silent []report // silent actions next to actions that report
	add := func(planned run.Planned, r report) {
		if step.IsSilent(planned) {
			silent = append(silent, r)
		} else {
			reports = append(reports, r)
		}
	}
	var began, last time.Time
	var ended []protocol.Job
	for index, r := range ran {
		job, failure := step.Ran[index].Job, r.failure
		if failure != "" && r.result.Message != "" {
			failure += "\n" + r.result.Message
		}
		ended = append(ended, timeline.Of(timeline.Evidence{
			Task: task, Job: job, Pods: r.evidence.pods, Events: r.evidence.events, Result: r.runResult, Failure: failure,
			Ended: func(pod *corev1.Pod) string { return r.redactor.Text(r.evidence.ended(pod)) },
		}, w.Now()))
		add(step.Ran[index].Planned, r)
		if end := run.EndedAt(job); end.After(last) {
			last = end // the Jobs of a parallel action end in any order
		}
		if began.IsZero() && !step.IsSilent(step.Ran[index].Planned) {
			began = r.began
		}
	}
	for _, planned := range step.Missing {
		add(planned, report{task: planned.Task, failure: missing(planned, asked.Reason), isErrored: true, runResult: keptn.RunError})
	}
	if err := w.delete(ctx, step.Unneeded); err != nil {
		return nil, err
	}
	if run.IsSilent(&jobs[0]) && !hasFailed(reports) {
		return nil, nil
	}
	answer := protocol.Log(task, w.Now(), message(reports, nil), runResultOf(reports))
	if !run.IsSilent(&jobs[0]) {
		answer = protocol.Finished(task, w.Now(), outcomeOf(task, reports, began, last), runResultOf(reports))
		if hasFailed(silent) {
			answer.Logged = sentences(silent, nil)
		}
		if len(step.Missing) == 0 {
			answer.EndedAt = last.UTC() // tells the bridge whether an earlier bridge may have reported this
		}
	}
	answer.Jobs = ended
	return new(answer.Event()), nil
}

// outcomeOf merges the reports of a run's tasks.
func outcomeOf(task keptn.Task, reports []report, began, ended time.Time) keptn.Outcome {
	outcome := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}
	var notes []string
	for _, r := range reports {
		if r.isErrored {
			outcome = errored(outcome)
		}
		for _, member := range r.result.Merge(&outcome) {
			notes = append(notes, fmt.Sprintf("Task '%s' replaced the %s that an earlier task reported.", r.task, member))
		}
	}
	if task.Name == testTask && outcome.Status == keptn.StatusSucceeded {
		// Keptn's lighthouse evaluates this span of time.
		own := map[string]any{"start": began.UTC().Format(time.RFC3339), "end": ended.UTC().Format(time.RFC3339)}
		if reported, isObject := outcome.Data[testTask].(map[string]any); isObject {
			maps.Copy(own, reported)
		} else if _, given := outcome.Data[testTask]; given {
			notes = append(notes, "The reported member test was replaced: Keptn expects an object with the test's start and end.")
		}
		if outcome.Data == nil {
			outcome.Data = map[string]any{}
		}
		outcome.Data[testTask] = own
	}
	outcome.Message = message(reports, notes)
	return outcome
}

// testTask is the task whose start and end Keptn's lighthouse looks for.
const testTask = "test"

func errored(outcome keptn.Outcome) keptn.Outcome {
	outcome.Status, outcome.Result = keptn.StatusErrored, keptn.ResultFail
	return outcome
}

// runResultOf returns how a run ended: like the first task that did not succeed.
func runResultOf(reports []report) keptn.RunResult {
	for _, r := range reports {
		if r.failure != "" {
			return r.runResult
		}
	}
	return keptn.RunSuccess
}

func hasFailed(reports []report) bool {
	return slices.ContainsFunc(reports, func(r report) bool { return r.failure != "" })
}

func missing(planned run.Planned, reason string) string {
	if reason != "" {
		return reason
	}
	return fmt.Sprintf("Job %s in namespace %s was deleted before the task ended. Run the sequence again.", planned.Name, planned.Namespace)
}
