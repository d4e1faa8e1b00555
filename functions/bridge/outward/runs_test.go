package outward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/tracing"
	"github.com/job-executor/job-executor/test/fixture"
)

// noSpans writes none.
type noSpans struct{}

func (noSpans) Write(context.Context, keptn.Task, keptn.RunResult, string) {}

func newRuns(broker *fixture.Broker, lister keptn.Lister, counter *fixture.Counter) *Runs {
	return &Runs{
		Lister: lister, Counter: counter, Keptn: &delivered{}, Broker: broker, Source: "ours", Interval: time.Second,
		Tracer: noop.NewTracerProvider().Tracer(""), RunSpans: noSpans{}, Now: time.Now, Log: discard,
	}
}

// open lists the triggered events of tasks.
type open []keptn.Task

func (open open) OpenTriggered(context.Context, string) ([]event.Event, error) {
	var events []event.Event
	for _, task := range open {
		events = append(events, triggered(task))
	}
	return events, nil
}

func TestRunIsCancelledWhenItsSequenceWasAborted(t *testing.T) {
	tests := []struct {
		name    string
		answer  event.Event
		settled bool
		open    open
		counter fixture.Counter
		want    []string
	}{
		{
			name:    "a task that was aborted",
			answer:  task.Started(noon),
			counter: fixture.Counter{Answer: aborted},
			want:    []string{"1-cancelled"},
		},
		{name: "not one that is open", answer: task.Started(noon), open: open{task}, counter: fixture.Counter{Answer: aborted}},
		{
			name:    "not one that is only missing in the list",
			answer:  task.Started(noon),
			counter: fixture.Counter{Answer: running},
		},
		{name: "not one that Keptn does not know", answer: task.Started(noon), counter: fixture.Counter{}},
		{name: "not one that is completed", answer: task.Started(noon), counter: fixture.Counter{Answer: completed}},
		{name: "not while Keptn can't be asked", answer: task.Started(noon), counter: fixture.Counter{Err: errDown}},
		{
			name:    "not one that was reported",
			answer:  task.Finished(noon, keptn.Errored("")),
			settled: true,
			counter: fixture.Counter{Answer: aborted},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &fixture.Broker{Refuse: 1} // it is tried again
				runs := newRuns(broker, test.open, &test.counter)
				keptnsSide := &delivered{}
				outbox := &Outbox{
					Keptn:         keptnsSide,
					Journal:       &journal{},
					IntegrationID: integrationID,
					Runs:          runs,
					RunSpans:      noSpans{},
					Metrics:       &fixture.Metrics{},
					Now:           time.Now,
					Log:           discard,
				}
				for _, answer := range []event.Event{task.Started(noon), test.answer} {
					if _, err := outbox.Handle(t.Context(), answer); err != nil {
						t.Fatal(err)
					}
					keptnsSide.settled = test.settled
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := runs.Run(ctx); err != nil {
					t.Error(err)
				}
				if difference := cmp.Diff(test.want, broker.IDs()); difference != "" {
					t.Errorf("cancelled (-want +got):\n%s", difference)
				}
			})
		})
	}
}

const stuckType = "sh.keptn.event.stuck.triggered"

func TestRunsAreBounded(t *testing.T) {
	runs := newRuns(nil, nil, nil)
	for number := range maxRuns + 1 {
		other := task
		other.TriggeredID = fmt.Sprint(number)
		runs.Add(other)
	}
	runs.Add(task) // known already
	if len(runs.tasks) != maxRuns {
		t.Errorf("%d runs are looked after", len(runs.tasks))
	}
}

// without lists nothing of any type but one, which it can't list.
type without string

func (without without) OpenTriggered(_ context.Context, eventType string) ([]event.Event, error) {
	if eventType == string(without) {
		return nil, errDown
	}
	return nil, nil
}

func TestAbortIsSeenThoughAnotherTypeCanNotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fixture.Broker{}
		runs := newRuns(broker, without(stuckType), &fixture.Counter{Answer: aborted})
		stuck := task
		stuck.Name, stuck.TriggeredID = "stuck", "0"
		runs.Add(stuck)
		runs.Add(task)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := runs.Run(ctx); err != nil {
			t.Error(err)
		}
		if difference := cmp.Diff([]string{"1-cancelled"}, broker.IDs()); difference != "" {
			t.Errorf("cancelled (-want +got):\n%s", difference)
		}
	})
}

// A started event that comes late, after the finished one, makes no run of it.
func TestStartedThatComesAfterTheEndChangesNothing(t *testing.T) {
	runs := newRuns(&fixture.Broker{}, nil, &fixture.Counter{})
	outbox := &Outbox{
		Keptn:         &delivered{settled: true},
		Journal:       &journal{},
		IntegrationID: integrationID,
		Runs:          runs,
		RunSpans:      noSpans{},
		Metrics:       &fixture.Metrics{},
		Now:           time.Now,
		Log:           discard,
	}
	for _, answer := range []event.Event{task.Finished(noon, keptn.Errored("")), task.Started(noon)} {
		if _, err := outbox.Handle(t.Context(), answer); err != nil {
			t.Fatal(err)
		}
	}
	if len(runs.tasks) > 0 {
		t.Errorf("it is looked after: %v", runs.tasks)
	}
}

// jobsource names a run that is not reported: whatever may have happened meanwhile is
// answered.
func TestNamedRunIsAnswered(t *testing.T) {
	annotation, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	named := func(phase run.Phase, silent string) event.Event {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{
				run.EventIDLabel: "1",
			},
			Annotations: map[string]string{run.TaskAnnotation: string(annotation), run.SilentAnnotation: silent},
		}}
		if phase == run.Waiting {
			job.Spec.Suspend = new(true)
			job.Annotations[run.PlanAnnotation] = `[{"namespace":"jobs","name":"first"},{"namespace":"jobs","name":"second"}]`
		}
		if phase == run.Succeeded {
			job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		}
		made := run.Active([]*batchv1.Job{job}, noon)
		return made
	}
	incomplete := named(run.Waiting, "")
	// observed is the same of the run of an event that triggers nothing, of which Keptn is not
	// asked.
	observed := func(phase run.Phase) event.Event {
		made := named(phase, "true")
		notice, err := run.NoticeOf(made, run.ActiveType)
		if err == nil {
			notice.Task = json.RawMessage(strings.Replace(string(notice.Task), "{", `{"observed":true,`, 1))
			err = made.SetData(event.ApplicationJSON, notice)
		}
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	tests := []struct {
		name      string
		event     event.Event
		counter   fixture.Counter
		reply     string
		err       error
		isThere   bool
		delivered string
	}{
		{
			name:    "it was aborted",
			event:   named(run.Running, ""),
			counter: fixture.Counter{Answer: aborted},
			reply:   "1-cancelled",
		},
		{
			name:    "it ended, and was aborted",
			event:   named(run.Succeeded, ""),
			counter: fixture.Counter{Answer: aborted},
			reply:   "1-reported",
		},
		{
			name:    "it ended, and Keptn has its result",
			event:   named(run.Succeeded, ""),
			counter: fixture.Counter{Answer: completed},
			reply:   "1-reported",
		},
		{
			name:    "it runs, though others finished the task",
			event:   named(run.Running, ""),
			counter: fixture.Counter{Answer: completed},
		},
		{name: "it runs", event: named(run.Running, ""), counter: fixture.Counter{Answer: running}, isThere: true},
		{
			name:    "its first Job is not there, and Keptn has a result",
			event:   incomplete,
			counter: fixture.Counter{Answer: completed},
			reply:   "1-cancelled",
		},
		{name: "its first Job is not there", event: incomplete, counter: fixture.Counter{Answer: current}},
		{
			name:      "it runs, and Keptn has no started event",
			event:     named(run.Running, ""),
			counter:   fixture.Counter{Answer: current},
			isThere:   true,
			delivered: "sh.keptn.event.test.started",
		},
		{name: "it is silent", event: named(run.Running, "true"), counter: fixture.Counter{Answer: current}, isThere: true},
		{name: "it is of what was only observed", event: observed(run.Running), counter: fixture.Counter{Err: errDown}},
		{name: "that has ended", event: observed(run.Succeeded), counter: fixture.Counter{Err: errDown}, reply: "1-reported"},
		{name: "Keptn does not know it", event: named(run.Running, ""), counter: fixture.Counter{}, isThere: true},
		{
			name:    "Keptn can't be asked",
			event:   named(run.Running, ""),
			counter: fixture.Counter{Err: errDown},
			err:     errDown,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			runs, keptnsSide := newRuns(nil, nil, &test.counter), &delivered{}
			runs.Keptn = keptnsSide
			reply, err := runs.Handle(t.Context(), test.event)
			id := ""
			if reply != nil {
				id = reply.ID()
			}
			// A cancellation is in the trace of its task, of which who named it knows nothing.
			if id == "1-cancelled" && tracing.Parse(t.Context(), reply.Extensions()[tracing.Extension].(string)).TraceID() != tracing.TraceID(task.Context) {
				t.Errorf("it is within %v", reply.Extensions())
			}
			if id != test.reply || !errors.Is(err, test.err) || runs.IsThere(task) != test.isThere || keptnsSide.last.Type() != test.delivered {
				t.Errorf("got %q, %v, is there: %v, delivered %q", id, err, runs.IsThere(task), keptnsSide.last.Type())
			}
		})
	}
}
