package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/run"
)

// Follower shows a sequence as it happens.
type Follower struct {
	Terminal         *Terminal
	Keptn            Keptn
	Project, Context string
	// Interval is how often it looks; each time it also calls Look, for what else there
	// is to be shown, with the sequence's events. Look may be nil.
	Interval time.Duration
	Look     func(context.Context, []Event) error

	seen map[string]bool
}

// Follow shows the sequence until Keptn says that it is over, or ctx ends, which is an
// error. It returns our last finished event, or nil if there is none.
func (follower *Follower) Follow(ctx context.Context) (*Event, error) {
	for {
		// The state first: what is read after it has all events that led to it.
		state, stageState, err := follower.Keptn.State(ctx, follower.Project, follower.Context)
		if err != nil {
			return nil, err
		}
		events, err := follower.Keptn.Events(ctx, follower.Context)
		if err != nil {
			return nil, err
		}
		if follower.Look != nil {
			if err := follower.Look(ctx, events); err != nil {
				return nil, err
			}
		}
		if state == "finished" {
			follower.Terminal.Line("Keptn", "", fmt.Sprintf("sequence %s, stage %s", state, stageState))
			for _, event := range slices.Backward(Ours(events)) {
				if strings.HasSuffix(event.Type, ".finished") {
					return &event, nil
				}
			}
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the sequence is %q: %w", state, context.Cause(ctx))
		case <-time.After(follower.Interval):
		}
	}
}

// Once shows a line, but not again one with the same key.
func (follower *Follower) Once(key, from, what string) {
	if follower.seen == nil {
		follower.seen = map[string]bool{}
	}
	if !follower.seen[key] {
		follower.seen[key] = true
		follower.Terminal.Line(from, "", what)
	}
}

// Jobs shows what has become of Jobs, and returns the name of a task that runs, if any
// does.
func (follower *Follower) Jobs(jobs []batchv1.Job) (running string) {
	for index := range jobs {
		job := &jobs[index]
		phase, task := run.PhaseOf(job), job.Annotations[run.TaskNameAnnotation]
		if phase == run.Running {
			running = task
		}
		follower.Once("job "+job.Name+string(phase), "Kubernetes", fmt.Sprintf("Job %s (%s) is %s", job.Name, task, phase))
	}
	return running
}
