package console

import (
	"cmp"
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
	// Interval is the interval of checks. Each one also calls Look with the sequence's events. Look may be nil.
	Interval time.Duration
	Look     func(context.Context, []Event) error

	seen map[string]bool
}

// storeLimit is how long Keptn may take to store an event that it has counted.
const storeLimit = 5 * time.Second

// Follow shows the sequence until Keptn says that it is over. It returns our last finished event, nil if there
// is none, and an error if the context ends first.
func (f *Follower) Follow(ctx context.Context) (*Event, error) {
	var over time.Time
	for {
		// The state is read first, so that the events include all that led to it.
		state, stageState, err := f.Keptn.State(ctx, f.Project, f.Context)
		if err != nil {
			return nil, err
		}
		events, err := f.Keptn.Events(ctx, f.Context)
		if err != nil {
			return nil, err
		}
		if f.Look != nil {
			if err := f.Look(ctx, events); err != nil {
				return nil, err
			}
		}
		if state == "finished" {
			f.Once("over", "Keptn", fmt.Sprintf("sequence %s, stage %s", state, stageState))
			for _, event := range slices.Backward(Ours(events)) {
				if strings.HasSuffix(event.Type, ".finished") {
					return &event, nil
				}
			}
			if over = cmp.Or(over, time.Now()); time.Since(over) > storeLimit {
				return nil, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the sequence is %q: %w", state, context.Cause(ctx))
		case <-time.After(f.Interval):
		}
	}
}

// Once shows a line unless one with the same key was shown.
func (f *Follower) Once(key, from, what string) {
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	if !f.seen[key] {
		f.seen[key] = true
		f.Terminal.Line(from, "", what)
	}
}

// Jobs shows the states of Jobs, and returns the name of a running task, if any.
func (f *Follower) Jobs(jobs []batchv1.Job) (running string) {
	for index := range jobs {
		job := &jobs[index]
		phase, task := run.PhaseOf(job), job.Annotations[run.TaskNameAnnotation]
		if phase == run.Running {
			running = task
		}
		f.Once("job "+job.Name+string(phase), "Kubernetes", fmt.Sprintf("Job %s (%s) is %s", job.Name, task, phase))
	}
	return running
}
