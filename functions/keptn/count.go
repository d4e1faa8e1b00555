package keptn

import "context"

// Counter asks Keptn what it has counted for a task.
type Counter interface {
	Count(ctx context.Context, task Task) (Count, error)
}

// Standing is where Keptn is with a task, as it says itself.
type Standing int

const (
	// Unknown is a task of which Keptn knows nothing (yet, or any more).
	Unknown Standing = iota
	// Pending is a task whose triggered event is listed, but not dispatched yet,
	// or whose sequence is paused. Keptn answers 200 to a started event and drops it
	// (recording 30-started-too-early-dropped).
	Pending
	// Current is a task for which Keptn counts what is sent for it.
	Current
	// Completed is a task for which as many finished as started events were counted.
	// Keptn ignores whatever is still sent for it.
	Completed
	// Aborted is a task whose sequence was aborted, or timed out.
	Aborted
)

// Count is what Keptn has counted for a task.
type Count struct {
	Standing Standing
	// Started and Finished are how many events of ours were counted.
	Started, Finished int
}

// Over says whether Keptn no longer waits for the task.
func (count Count) Over() bool { return count.Standing == Completed || count.Standing == Aborted }

// The states of sequences and of their executions (shipyard-controller's models).
const (
	stateFinished = "finished"
	stateAborted  = "aborted"
	stateTimedOut = "timedOut"
	statePaused   = "paused"
)

// Count reads the task's state from Keptn's sequence executions.
func (client *Client) Count(ctx context.Context, task Task) (Count, error) {
	executions, err := client.Executions(ctx, task.Project, task.Context)
	if err != nil && !IsNotFound(err) {
		return Count{}, err
	}
	for _, execution := range executions {
		for _, previous := range execution.Status.PreviousTasks {
			if previous.TriggeredID == task.TriggeredID {
				return Count{Standing: Completed}, nil
			}
		}
		if execution.Status.CurrentTask.TriggeredID == task.TriggeredID {
			return client.current(ctx, task, execution)
		}
	}
	open, err := client.IsOpen(ctx, task)
	if IsNotFound(err) {
		return Count{Standing: Aborted}, nil // Keptn says itself that the project was deleted
	}
	if err != nil {
		return Count{}, err
	}
	if open {
		return Count{Standing: Pending}, nil
	}
	return client.interrupted(ctx, task, Completed)
}

// interrupted asks how the sequence of a task ended that Keptn does not hold any more. An
// execution that was aborted is finished, and only the sequence's state tells the
// difference (recording 40-abort-after-started).
func (client *Client) interrupted(ctx context.Context, task Task, finished Standing) (Count, error) {
	state, err := client.SequenceState(ctx, task.Project, task.Context)
	if err != nil && !IsNotFound(err) {
		return Count{}, err
	}
	switch state {
	case stateAborted, stateTimedOut:
		return Count{Standing: Aborted}, nil
	case stateFinished:
		return Count{Standing: finished}, nil
	default:
		return Count{Standing: Unknown}, nil
	}
}

// current counts what Keptn has for the task that is the current one of a sequence.
func (client *Client) current(ctx context.Context, task Task, execution Execution) (Count, error) {
	switch execution.Status.State {
	case stateFinished, stateAborted, stateTimedOut:
		// It ended while this task was the current one.
		return client.interrupted(ctx, task, Aborted)
	}
	count := Count{Standing: Current}
	for _, counted := range execution.Status.CurrentTask.Events {
		if counted.Source != client.source() {
			continue // another integration's, or another installation's
		}
		switch _, phase, _ := ParseType(counted.EventType); phase {
		case Started:
			count.Started++
		case Finished:
			count.Finished++
		}
	}
	if len(execution.Status.CurrentTask.Events) > 0 {
		return count, nil
	}
	// Keptn would count for a paused sequence (recording 45-pause-started-while-paused),
	// and so move one on that somebody wanted to stand still. One that was paused just
	// now has the state only on its page.
	state := execution.Status.State
	if state != statePaused {
		var err error
		if state, err = client.SequenceState(ctx, task.Project, task.Context); err != nil && !IsNotFound(err) {
			return Count{}, err
		}
	}
	if state == statePaused {
		count.Standing = Pending
	}
	return count, nil
}

func (client *Client) source() string {
	if client.Source != "" {
		return client.Source
	}
	return Source
}
