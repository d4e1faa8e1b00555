package runs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// situation is what Keptn and the Jobs say about an announced run.
type situation struct {
	standing keptn.Standing
	// started is true if Keptn has counted a started event.
	started                        bool
	observed, silent, begun, ended bool
}

// step is what an announced run needs.
type step int

const (
	// leave the run: it is active, and nobody waits for its result.
	leave step = iota
	// confirm to jobsource that the run is reported.
	confirm
	// cancel the run.
	cancel
	// forget the run: the task was completed by somebody else.
	forget
	// expect the run to begin.
	expect
	// track the run until it ends.
	track
	// resend the started event, and track the run.
	resend
)

// next is the decision table for an announced run.
func (s situation) next() step {
	over := s.standing == keptn.Completed || s.standing == keptn.Aborted
	switch {
	case s.observed && s.ended:
		return confirm
	case s.observed:
		return leave
	case over && s.ended:
		return confirm
	// A completed task whose run has not begun was answered by another executor with a mistake. The
	// remaining Jobs, and so the first one, will never be created.
	case s.standing == keptn.Aborted, over && !s.begun:
		return cancel
	case over:
		return forget
	case !s.begun:
		return expect
	case s.standing == keptn.Current && !s.started && !s.silent:
		return resend
	default:
		return track
	}
}

// result returns the result of an ended run without a finished event; false if it has not, or
// if the result is unknown and the run is not over.
func (s situation) result() (keptn.RunResult, bool) {
	switch {
	case !s.ended:
		return "", false
	case s.observed, s.silent:
		return keptn.RunSuccess, true // Keptn's log would have said otherwise
	case s.standing == keptn.Aborted:
		return keptn.RunCancellation, true
	default: // others completed the task, or an earlier bridge
		return "", s.standing == keptn.Completed
	}
}

// Handle answers jobsource's announcement of a run, which is repeated until the run is reported. It replies
// that the run is cancelled or reported, and resends a started event that Keptn lacks. So a new bridge catches
// up with everything that happened while no bridge ran.
func (r *Runs) Handle(ctx context.Context, received event.Event) (*event.Event, error) {
	announced, err := protocol.NoticeOf(received, protocol.ActiveType)
	if err != nil {
		return nil, function.Permanent(err)
	}
	var task keptn.Task
	if err := json.Unmarshal(announced.Task, &task); err != nil {
		return nil, function.Permanent(fmt.Errorf("decode the task of notice %s: %w", received.ID(), err))
	}
	now := situation{observed: task.Observed, silent: announced.Silent, begun: announced.Begun, ended: announced.Ended}
	if !task.Observed { // Keptn does not know of other events
		count, err := r.Counter.Count(ctx, task)
		if err != nil {
			return nil, err
		}
		now.standing, now.started = count.Standing, count.Started > 0
	}
	if result, known := now.result(); known {
		r.RunSpans.Write(ctx, task, result, "")
	}
	switch now.next() {
	case confirm:
		r.Remove(task)
		return new(protocol.Reported(r.Source, announced.RunID, task.Context, r.Now())), nil
	case cancel:
		r.Remove(task)
		return telemetry.Reply(ctx, r.Tracer, task, new(r.Cancel(ctx, task))), nil
	case forget:
		r.Remove(task)
	case expect:
		r.Add(task)
	case track:
		r.add(task, r.Now())
	case resend:
		r.add(task, r.Now())
		_, err = r.Keptn.Deliver(ctx, protocol.Answer{Task: task, Phase: keptn.Started, At: r.Now()})
	case leave:
	}
	return nil, err
}

// Cancel returns the cancellation of a task's run.
func (r *Runs) Cancel(ctx context.Context, task keptn.Task) event.Event {
	r.Log.InfoContext(ctx, "run cancelled: Keptn no longer waits for it", "triggeredid", task.TriggeredID, "keptncontext", task.Context)
	return protocol.Cancelled(r.Source, run.ID(task.TriggeredID), task.Context, r.Now())
}
