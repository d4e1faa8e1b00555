package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// States of sequences and executions (shipyard-controller's models).
const (
	stateFinished = "finished"
	stateAborted  = "aborted"
	stateTimedOut = "timedOut"
	statePaused   = "paused"
)

// Count returns the task's state from Keptn's sequence executions. After a failure it returns ErrBackoff for a
// while, without asking Keptn.
func (c *Client) Count(ctx context.Context, task keptn.Task) (keptn.Count, error) {
	if !c.contexts.Enter(task.Context) {
		return keptn.Count{}, fmt.Errorf("ask Keptn about task %s: %w", task.TriggeredID, function.ErrBackoff)
	}
	count, err := c.count(ctx, task)
	if ctx.Err() == nil { // otherwise the caller gave up, and Keptn may be fine
		c.contexts.Leave(task.Context, err == nil)
	}
	if err != nil {
		return keptn.Count{}, fmt.Errorf("ask Keptn about task %s: %w", task.TriggeredID, err)
	}
	return count, nil
}

func (c *Client) count(ctx context.Context, task keptn.Task) (keptn.Count, error) {
	executions, err := c.Executions(ctx, task.Project, task.Context)
	if err != nil && !IsNotFound(err) {
		return keptn.Count{}, err
	}
	count, err := c.counted(ctx, task, executions)
	if err != nil {
		return keptn.Count{}, err
	}
	interruption := count.Sequence.Result
	count.Sequence = sequenceOf(task, executions)
	count.Sequence.Result = cmp.Or(interruption, count.Sequence.Result)
	if !count.Over() { // an abort may not be confirmed yet
		count.Sequence.Result, count.Sequence.FailedTask = "", ""
	}
	return count, nil
}

// sequenceOf returns the sequence that a task belongs to. An event that no sequence triggered, such as one of
// lighthouse-service, belongs to the sequence that was triggered last before it in its stage.
func sequenceOf(task keptn.Task, executions []Execution) keptn.Sequence {
	var found *Execution
	for index := range executions {
		execution := &executions[index]
		isPrevious := func(previous previousTask) bool { return previous.TriggeredID == task.TriggeredID }
		if execution.Status.CurrentTask.TriggeredID == task.TriggeredID || slices.ContainsFunc(execution.Status.PreviousTasks, isPrevious) {
			found = execution
			break
		}
		isBefore := task.TriggeredAt.IsZero() || !execution.TriggeredAt.After(task.TriggeredAt)
		if execution.Scope.Stage == task.Stage && isBefore && (found == nil || execution.TriggeredAt.After(found.TriggeredAt.Time)) {
			found = execution
		}
	}
	if found == nil {
		return keptn.Sequence{}
	}
	sequence := keptn.Sequence{ID: found.Scope.TriggeredID, Name: found.Sequence.Name, TriggeredAt: found.TriggeredAt.Time}
	sequence.Result, sequence.FailedTask = found.result()
	var before time.Time
	for _, execution := range executions {
		if at := execution.TriggeredAt.Time; at.Before(found.TriggeredAt.Time) && at.After(before) {
			before, sequence.Previous = at, execution.Scope.TriggeredID
		}
	}
	return sequence
}

// result returns the result of an ended sequence, and the failed task, if any.
func (e *Execution) result() (keptn.RunResult, string) {
	switch e.Status.State {
	case stateFinished, stateAborted, stateTimedOut:
	default:
		return "", ""
	}
	if e.Status.CurrentTask.TriggeredID != "" { // recording 40-abort-after-started
		return keptn.RunCancellation, ""
	}
	if count := len(e.Status.PreviousTasks); count > 0 {
		last := e.Status.PreviousTasks[count-1]
		if last.Result == keptn.ResultFail || last.Status == keptn.StatusErrored {
			return keptn.RunFailure, last.Name
		}
	}
	return keptn.RunSuccess, ""
}

func (c *Client) counted(ctx context.Context, task keptn.Task, executions []Execution) (keptn.Count, error) {
	for _, execution := range executions {
		for _, previous := range execution.Status.PreviousTasks {
			if previous.TriggeredID == task.TriggeredID {
				return keptn.Count{Standing: keptn.Completed}, nil
			}
		}
		if execution.Status.CurrentTask.TriggeredID == task.TriggeredID {
			return c.current(ctx, task, execution)
		}
	}
	open, err := c.IsOpen(ctx, task)
	if IsNotFound(err) {
		return keptn.Count{Standing: keptn.Aborted}, nil // Keptn itself says that the project does not exist
	}
	if err != nil {
		return keptn.Count{}, err
	}
	if open {
		return keptn.Count{Standing: keptn.Pending}, nil
	}
	count, err := c.interrupted(ctx, task, keptn.Completed)
	if err != nil || count.Standing == keptn.Aborted {
		return count, err
	}
	if direct, found, err := c.countDirect(ctx, task); found || err != nil {
		return direct, err
	}
	return count, nil
}

// interrupted returns how the sequence of a task ended that Keptn no longer holds. The execution of an aborted
// sequence is finished; only the sequence's state tells the difference (recording 40-abort-after-started).
func (c *Client) interrupted(ctx context.Context, task keptn.Task, finished keptn.Standing) (keptn.Count, error) {
	state, err := c.SequenceState(ctx, task.Project, task.Context)
	if err != nil && !IsNotFound(err) {
		return keptn.Count{}, err
	}
	switch state {
	case stateAborted:
		return keptn.Count{Standing: keptn.Aborted, Sequence: keptn.Sequence{Result: keptn.RunCancellation}}, nil
	case stateTimedOut:
		return keptn.Count{Standing: keptn.Aborted, Sequence: keptn.Sequence{Result: keptn.RunTimeout}}, nil
	case stateFinished:
		return keptn.Count{Standing: finished}, nil
	default:
		return keptn.Count{Standing: keptn.Unknown}, nil
	}
}

// current returns Keptn's counts for the current task of a sequence.
func (c *Client) current(ctx context.Context, task keptn.Task, execution Execution) (keptn.Count, error) {
	switch execution.Status.State {
	case stateFinished, stateAborted, stateTimedOut:
		// The sequence ended while this task was current.
		return c.interrupted(ctx, task, keptn.Aborted)
	}
	count := keptn.Count{Standing: keptn.Current}
	for _, counted := range execution.Status.CurrentTask.Events {
		if counted.Source != c.Source {
			continue // from another integration or installation
		}
		switch _, phase, _ := keptn.ParseType(counted.EventType); phase {
		case keptn.Started:
			count.Started++
		case keptn.Finished:
			count.Finished++
		}
	}
	if len(execution.Status.CurrentTask.Events) > 0 {
		return count, nil
	}
	// Keptn counts events even for a paused sequence (recording 45-pause-started-while-paused), which would
	// then continue against its user's wish. If it was paused just now, only its page has the state.
	state := execution.Status.State
	if state != statePaused {
		var err error
		if state, err = c.SequenceState(ctx, task.Project, task.Context); err != nil && !IsNotFound(err) {
			return keptn.Count{}, err
		}
	}
	if state == statePaused {
		count.Standing = keptn.Pending
	}
	return count, nil
}
