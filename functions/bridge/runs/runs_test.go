package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

	"github.com/job-executor/job-executor/functions/bridge/report"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

var (
	noon, discard, errDown, task, triggered = fixture.Noon, fixture.Discard, fixture.ErrDown, fixture.Task, fixture.Triggered
	current, running, aborted, completed    = fixture.Current, fixture.Running, fixture.Aborted, fixture.Completed
)

// delivered keeps the last answer.
type delivered struct{ last protocol.Answer }

func (d *delivered) Deliver(_ context.Context, answer protocol.Answer) (report.Delivery, error) {
	d.last = answer
	return report.Delivery{}, nil
}

// noSpans writes no spans.
type noSpans struct{}

func (noSpans) Write(context.Context, keptn.Task, keptn.RunResult, string) {}
func (noSpans) Jobs(context.Context, keptn.Task, []protocol.Job)           {}

func newRuns(broker *fixture.Broker, lister keptn.Lister, counter *fixture.Counter) *Runs {
	return &Runs{
		Lister: lister, Counter: counter, Keptn: &delivered{}, Broker: broker, Source: "ours", Interval: time.Second,
		Tracer: noop.NewTracerProvider().Tracer(""), RunSpans: noSpans{}, Now: time.Now, Log: discard,
	}
}

// open lists the triggered events of tasks.
type open []keptn.Task

func (o open) OpenTriggered(context.Context, string) ([]event.Event, error) {
	var events []event.Event
	for _, task := range o {
		events = append(events, triggered(task))
	}
	return events, nil
}

func TestRunIsCancelledWhenItsSequenceWasAborted(t *testing.T) {
	tests := []struct {
		name    string
		ended   bool
		open    open
		counter fixture.Counter
		want    []string
	}{
		{
			name:    "an aborted task is cancelled",
			counter: fixture.Counter{Answer: aborted},
			want:    []string{"1-cancelled"},
		},
		{name: "an open task is not", open: open{task}, counter: fixture.Counter{Answer: aborted}},
		{
			name:    "a task missing in the list is not",
			counter: fixture.Counter{Answer: running},
		},
		{name: "an unknown task is not", counter: fixture.Counter{}},
		{name: "a completed task is not", counter: fixture.Counter{Answer: completed}},
		{name: "no task while Keptn does not answer", counter: fixture.Counter{Err: errDown}},
		{
			name:    "a reported run is not",
			ended:   true,
			counter: fixture.Counter{Answer: aborted},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &fixture.Broker{Refuse: 1} // it is tried again
				runs := newRuns(broker, test.open, &test.counter)
				runs.Add(task)
				if test.ended {
					runs.Remove(task)
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

// without lists nothing, and fails for one type.
type without string

func (w without) OpenTriggered(_ context.Context, eventType string) ([]event.Event, error) {
	if eventType == string(w) {
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

// jobsource announces a run until it is reported. The answer covers everything that may have happened.
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
		return protocol.Active([]*batchv1.Job{job}, noon)
	}
	incomplete := named(run.Waiting, "")
	// observed returns the announcement of an observed event's run. Keptn is not asked about it.
	observed := func(phase run.Phase) event.Event {
		created := named(phase, "true")
		notice, err := protocol.NoticeOf(created, protocol.ActiveType)
		if err == nil {
			notice.Task = json.RawMessage(strings.Replace(string(notice.Task), "{", `{"observed":true,`, 1))
			err = created.SetData(event.ApplicationJSON, notice)
		}
		if err != nil {
			t.Fatal(err)
		}
		return created
	}
	tests := []struct {
		name      string
		event     event.Event
		counter   fixture.Counter
		reply     string
		err       error
		isThere   bool
		delivered keptn.Phase
	}{
		{
			name:    "aborted",
			event:   named(run.Running, ""),
			counter: fixture.Counter{Answer: aborted},
			reply:   "1-cancelled",
		},
		{
			name:    "ended, and aborted",
			event:   named(run.Succeeded, ""),
			counter: fixture.Counter{Answer: aborted},
			reply:   "1-reported",
		},
		{
			name:    "ended, with a recorded result",
			event:   named(run.Succeeded, ""),
			counter: fixture.Counter{Answer: completed},
			reply:   "1-reported",
		},
		{
			name:    "active, and finished by others",
			event:   named(run.Running, ""),
			counter: fixture.Counter{Answer: completed},
		},
		{name: "active", event: named(run.Running, ""), counter: fixture.Counter{Answer: running}, isThere: true},
		{
			name:    "its first Job is missing, and Keptn has a result",
			event:   incomplete,
			counter: fixture.Counter{Answer: completed},
			reply:   "1-cancelled",
		},
		{name: "its first Job is missing", event: incomplete, counter: fixture.Counter{Answer: current}},
		{
			name:      "active, without a started event in Keptn",
			event:     named(run.Running, ""),
			counter:   fixture.Counter{Answer: current},
			isThere:   true,
			delivered: keptn.Started,
		},
		{name: "silent", event: named(run.Running, "true"), counter: fixture.Counter{Answer: current}, isThere: true},
		{name: "a run of an observed event", event: observed(run.Running), counter: fixture.Counter{Err: errDown}},
		{name: "an ended run of an observed event", event: observed(run.Succeeded), counter: fixture.Counter{Err: errDown}, reply: "1-reported"},
		{name: "unknown to Keptn", event: named(run.Running, ""), counter: fixture.Counter{}, isThere: true},
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
			// A cancellation belongs to its task's trace, which jobsource does not know.
			if id == "1-cancelled" && telemetry.SentWithin(t.Context(), *reply).TraceID() != telemetry.TraceID(task.Context) {
				t.Errorf("it is within %v", reply.Extensions())
			}
			if id != test.reply || !errors.Is(err, test.err) || runs.IsThere(task) != test.isThere || keptnsSide.last.Phase != test.delivered {
				t.Errorf("got %q, %v, is there: %v, delivered %q", id, err, runs.IsThere(task), keptnsSide.last.Phase)
			}
		})
	}
}

// An announcement proves for a while that the run exists.
func TestNamedRunIsThereForAWhile(t *testing.T) {
	runs := newRuns(nil, nil, nil)
	runs.add(task, noon)
	for later, want := range map[time.Duration]bool{0: true, announcementLifetime - 1: true, announcementLifetime: false} {
		runs.Now = func() time.Time { return noon.Add(later) }
		if got := runs.IsThere(task); got != want {
			t.Errorf("after %s: %t", later, got)
		}
	}
}

// asked fails, and records the tasks.
type asked struct{ tasks []string }

func (a *asked) Count(_ context.Context, task keptn.Task) (keptn.Count, error) {
	a.tasks = append(a.tasks, task.TriggeredID)
	return keptn.Count{}, errDown
}

// A broken Keptn is not asked about every task, and each check begins with another one.
func TestLookEndsAfterAFewFailures(t *testing.T) {
	counter := &asked{}
	runs := newRuns(nil, open{}, nil)
	runs.Counter = counter
	other := task
	for index := range 10 {
		other.TriggeredID = strconv.Itoa(index)
		runs.Add(other)
	}
	for checks := range 10 {
		if err := runs.checkAll(t.Context()); !errors.Is(err, errDown) || len(counter.tasks) != maxFailures*(checks+1) {
			t.Errorf("asked about %v, %v", counter.tasks, err)
		}
	}
	slices.Sort(counter.tasks)
	if got := slices.Compact(counter.tasks); len(got) != 10 {
		t.Errorf("asked about %v only", got)
	}
}
