package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"
	"go.opentelemetry.io/otel/trace/noop"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

var (
	noon    = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	discard = slog.New(slog.DiscardHandler)
	errDown = errors.New("it is down")
	task    = keptn.Task{TriggeredID: "1", Name: "test", Context: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", Project: "p", Stage: "s", Service: "v"}
)

func triggered(task keptn.Task) event.Event {
	made := task.Started(noon)
	made.SetType(keptn.TypeOf(task.Name, keptn.Triggered))
	made.SetID(task.TriggeredID)
	made.SetSource("shipyard-controller")
	made.SetExtension(keptn.TriggeredIDExtension, nil)
	return made
}

// broker keeps what it takes; the first events it refuses.
type broker struct {
	mutex  sync.Mutex
	refuse int
	taken  []event.Event
}

func (broker *broker) Send(_ context.Context, outgoing event.Event) error {
	broker.mutex.Lock()
	defer broker.mutex.Unlock()
	if broker.refuse > 0 {
		broker.refuse--
		return errDown
	}
	broker.taken = append(broker.taken, outgoing)
	return nil
}

func (broker *broker) ids() []string {
	broker.mutex.Lock()
	defer broker.mutex.Unlock()
	var ids []string
	for _, taken := range broker.taken {
		ids = append(ids, taken.ID())
	}
	return ids
}

type counter struct {
	count keptn.Count
	err   error
}

func (counter *counter) Count(context.Context, keptn.Task) (keptn.Count, error) {
	return counter.count, counter.err
}

func subscribed(subscriptions ...models.EventSubscription) *Subscriptions {
	return NewSubscriptions(nil, models.Integration{Subscriptions: subscriptions}, time.Second, never, discard)
}

func to(eventType string) models.EventSubscription { return models.EventSubscription{Event: eventType} }

func newRuns(broker *broker, lister Lister, counter *counter) *Runs {
	return &Runs{
		lister: lister, counter: counter, keptn: &delivered{}, broker: broker, source: "ours", interval: time.Second,
		tracer: noop.NewTracerProvider().Tracer(""), now: time.Now, log: discard, tasks: map[string]knownRun{},
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

var (
	current   = keptn.Count{Standing: keptn.Current}
	running   = keptn.Count{Standing: keptn.Current, Started: 1}
	aborted   = keptn.Count{Standing: keptn.Aborted}
	completed = keptn.Count{Standing: keptn.Completed}
)

func TestRunIsCancelledWhenItsSequenceWasAborted(t *testing.T) {
	tests := []struct {
		name    string
		answer  event.Event
		settled bool
		open    open
		counter counter
		want    []string
	}{
		{"a task that was aborted", task.Started(noon), false, nil, counter{count: aborted}, []string{"1-cancelled"}},
		{"not one that is open", task.Started(noon), false, open{task}, counter{count: aborted}, nil},
		{"not one that is only missing in the list", task.Started(noon), false, nil, counter{count: running}, nil},
		{"not one that Keptn does not know", task.Started(noon), false, nil, counter{}, nil},
		{"not one that is completed", task.Started(noon), false, nil, counter{count: completed}, nil},
		{"not while Keptn can't be asked", task.Started(noon), false, nil, counter{err: errDown}, nil},
		{"not one that was reported", task.Finished(noon, keptn.Errored("")), true, nil, counter{count: aborted}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &broker{refuse: 1} // it is tried again
				runs := newRuns(broker, test.open, &test.counter)
				keptnsSide := &delivered{}
				outbox := &Outbox{Keptn: keptnsSide, Journal: &journal{}, IntegrationID: integrationID, Runs: runs, Now: time.Now, Log: discard}
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
				if difference := cmp.Diff(test.want, broker.ids()); difference != "" {
					t.Errorf("cancelled (-want +got):\n%s", difference)
				}
			})
		})
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
		broker := &broker{}
		runs := newRuns(broker, without(stuckType), &counter{count: aborted})
		stuck := task
		stuck.Name, stuck.TriggeredID = "stuck", "0"
		runs.Add(stuck)
		runs.Add(task)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := runs.Run(ctx); err != nil {
			t.Error(err)
		}
		if difference := cmp.Diff([]string{"1-cancelled"}, broker.ids()); difference != "" {
			t.Errorf("cancelled (-want +got):\n%s", difference)
		}
	})
}

// A started event that comes late, after the finished one, makes no run of it.
func TestStartedThatComesAfterTheEndChangesNothing(t *testing.T) {
	runs := newRuns(&broker{}, nil, &counter{})
	outbox := &Outbox{Keptn: &delivered{settled: true}, Journal: &journal{}, IntegrationID: integrationID, Runs: runs, Now: time.Now, Log: discard}
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
			Labels: map[string]string{run.EventIDLabel: "1"}, Annotations: map[string]string{run.TaskAnnotation: string(annotation), run.SilentAnnotation: silent},
		}}
		if phase == run.Waiting {
			job.Spec.Suspend = new(true)
			job.Annotations[run.PlanAnnotation] = `[{"namespace":"jobs","name":"first"},{"namespace":"jobs","name":"second"}]`
		}
		if phase == run.Succeeded {
			job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		}
		made, err := run.Active([]*batchv1.Job{job}, noon)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	incomplete := named(run.Waiting, "")
	tests := []struct {
		name      string
		event     event.Event
		counter   counter
		reply     string
		err       error
		isThere   bool
		delivered string
	}{
		{"it was aborted", named(run.Running, ""), counter{count: aborted}, "1-cancelled", nil, false, ""},
		{"it ended, and was aborted", named(run.Succeeded, ""), counter{count: aborted}, "1-reported", nil, false, ""},
		{"it ended, and Keptn has its result", named(run.Succeeded, ""), counter{count: completed}, "1-reported", nil, false, ""},
		{"it runs, though others finished the task", named(run.Running, ""), counter{count: completed}, "", nil, false, ""},
		{"it runs", named(run.Running, ""), counter{count: running}, "", nil, true, ""},
		{"its first Job is not there, and Keptn has a result", incomplete, counter{count: completed}, "1-cancelled", nil, false, ""},
		{"its first Job is not there", incomplete, counter{count: current}, "", nil, false, ""},
		{"it runs, and Keptn has no started event", named(run.Running, ""), counter{count: current}, "", nil, true, "sh.keptn.event.test.started"},
		{"it is silent", named(run.Running, "true"), counter{count: current}, "", nil, true, ""},
		{"Keptn does not know it", named(run.Running, ""), counter{}, "", nil, true, ""},
		{"Keptn can't be asked", named(run.Running, ""), counter{err: errDown}, "", errDown, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			runs, keptnsSide := newRuns(nil, nil, &test.counter), &delivered{}
			runs.keptn = keptnsSide
			reply, err := runs.Handle(t.Context(), test.event)
			id := ""
			if reply != nil {
				id = reply.ID()
			}
			if id != test.reply || !errors.Is(err, test.err) || runs.IsThere(task) != test.isThere || keptnsSide.last.Type() != test.delivered {
				t.Errorf("got %q, %v, is there: %v, delivered %q", id, err, runs.IsThere(task), keptnsSide.last.Type())
			}
		})
	}
}

// What a listed event needs: each difference between what Keptn says, what is there and
// what was done has one answer.
func TestAnswer(t *testing.T) {
	asked := taken{sent: 1, silentSince: noon}
	tests := []struct {
		name             string
		count            keptn.Count
		started, isThere bool
		entry            taken
		now              time.Time
		want             wanted
	}{
		{"nobody has answered", current, false, false, taken{}, noon, give},
		{"again, if nothing came of it", current, false, false, taken{sent: 1}, noon, give},
		{"it is completed", completed, false, false, taken{}, noon, leave},
		{"it was aborted", aborted, true, true, taken{}, noon, leave},
		{"it is paused, or not dispatched", keptn.Count{Standing: keptn.Pending}, false, false, taken{}, noon, lookAgain},
		{"Keptn does not know it", keptn.Count{}, false, false, taken{}, noon, lookAgain},
		{"its run is there", running, true, true, taken{sent: 1}, noon, goesOn},
		{"its run is there, and its started event lost", current, true, true, taken{sent: 1}, noon, goesOn},
		{"a silent run is there", current, false, true, taken{sent: 1}, noon, goesOn},
		{"we are done, and others are not", keptn.Count{Standing: keptn.Current, Started: 1, Finished: 1}, true, false, taken{sent: 1}, noon, goesOn},
		{"nothing is heard of its run yet", running, true, false, taken{sent: 1}, noon, giveTime},
		{"nothing is heard of it for long", running, true, false, asked, noon.Add(silence), askForResult},
		{"nor of one of which the started event is not counted", current, true, false, asked, noon.Add(silence), askForResult},
		{"two were started and one finished", keptn.Count{Standing: keptn.Current, Started: 2, Finished: 1}, false, false, asked, noon.Add(silence), askForResult},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := answer(test.count, test.started, test.isThere, test.entry, test.now); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// starter is a reporter that has sent no started event, or has.
type starter struct{ started bool }

func (starter starter) HasStarted(context.Context, keptn.Task) (bool, error) {
	return starter.started, nil
}

func newInbox(broker *broker, counter *counter) *Inbox {
	return &Inbox{
		broker: broker, counter: counter, reporter: starter{}, subscriptions: subscribed(to("sh.keptn.event.test.triggered")),
		runs: newRuns(broker, nil, counter), source: "ours", resend: time.Minute, tracer: noop.NewTracerProvider().Tracer(""),
		now: time.Now, log: discard, taken: keptn.NewMemory[taken](rememberedEvents),
	}
}

// The result of a task that was started, and of whose run nothing is heard, is asked
// for; it is never run again. After a while it is said why there may be none.
func TestResultOfASilentRunIsAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		named bool
		want  []bool
	}{
		"its run is named": {true, nil},
		"it has none":      {false, []bool{false, false, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &broker{}
				inbox := newInbox(broker, &counter{count: running})
				for minute := range 25 {
					if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil {
						t.Fatal(err)
					}
					if minute == 0 && test.named {
						inbox.runs.add(task, time.Now().Add(time.Hour))
					}
					time.Sleep(time.Minute)
				}
				var reasoned []bool
				for _, taken := range broker.taken {
					awaiting, err := run.AwaitingOf(taken)
					if err != nil {
						t.Fatal(err)
					}
					reasoned = append(reasoned, awaiting.Reason != "")
				}
				if difference := cmp.Diff(test.want, reasoned); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		})
	}
}

func TestInboxTakesAnEventOnce(t *testing.T) {
	other := task
	other.Name = "release"
	tests := []struct {
		name   string
		events []event.Event
		origin Origin
		count  keptn.Count
		want   []string
	}{
		{"however often it is published", []event.Event{triggered(task), triggered(task)}, Published, current, []string{"1"}},
		{"or listed", []event.Event{triggered(task), triggered(task)}, Listed, current, []string{"1"}},
		{"not what is not subscribed to", []event.Event{triggered(other)}, Published, current, nil},
		{"not what is no triggered event", []event.Event{task.Started(noon)}, Published, current, nil},
		{"not before a paused sequence goes on", []event.Event{triggered(task)}, Listed, keptn.Count{Standing: keptn.Pending}, nil},
		{"not what we have started", []event.Event{triggered(task)}, Listed, running, nil},
		{"not what is over", []event.Event{triggered(task)}, Listed, completed, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broker := &broker{}
			inbox := newInbox(broker, &counter{count: test.count})
			for _, triggered := range test.events {
				if err := inbox.Take(t.Context(), triggered, test.origin); err != nil {
					t.Fatal(err)
				}
			}
			if difference := cmp.Diff(test.want, broker.ids()); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// What was listed before it was dispatched is taken when it is published.
func TestPublishedEventIsTakenAlthoughItWasListedTooEarly(t *testing.T) {
	broker := &broker{}
	inbox := newInbox(broker, &counter{count: keptn.Count{Standing: keptn.Pending}})
	for _, origin := range []Origin{Listed, Published} {
		if err := inbox.Take(t.Context(), triggered(task), origin); err != nil {
			t.Fatal(err)
		}
	}
	if difference := cmp.Diff([]string{"1"}, broker.ids()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestInboxAddsAttributesAndLeavesTheRest(t *testing.T) {
	broker := &broker{}
	sent := triggered(task)
	if err := newInbox(broker, &counter{}).Take(t.Context(), sent, Published); err != nil {
		t.Fatal(err)
	}
	want := sent.Clone()
	for name, value := range map[string]string{"keptnproject": "p", "keptnstage": "s", "keptnservice": "v", "keptntask": "test"} {
		want.SetExtension(name, value)
	}
	if difference := cmp.Diff(want.String(), broker.taken[0].String()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// What nobody starts is sent again, ever more seldom; what the Broker refused,
// at once.
func TestInboxSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &broker{refuse: 1}
		counter := &counter{count: keptn.Count{Standing: keptn.Current}}
		inbox := newInbox(broker, counter)
		if err := inbox.Take(t.Context(), triggered(task), Listed); !errors.Is(err, errDown) {
			t.Fatalf("got %v", err)
		}
		var sentAt []time.Duration
		began := time.Now()
		for range 10 * 60 {
			before := len(broker.taken)
			if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil {
				t.Fatal(err)
			}
			if len(broker.taken) > before {
				sentAt = append(sentAt, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		if difference := cmp.Diff([]time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute}, sentAt); difference != "" {
			t.Errorf("(-want +got):\n%s", difference)
		}
		counter.count.Started = 1
		time.Sleep(time.Hour)
		if err := inbox.Take(t.Context(), triggered(task), Listed); err != nil || len(broker.taken) != 4 {
			t.Errorf("%v, %d sent", err, len(broker.taken))
		}
	})
}

func TestSubscriptionsMatch(t *testing.T) {
	filtered := func(eventType string, projects, stages, services []string) models.EventSubscription {
		return models.EventSubscription{Event: eventType, Filter: models.EventSubscriptionFilter{Projects: projects, Stages: stages, Services: services}}
	}
	const exact = "sh.keptn.event.test.triggered"
	tests := []struct {
		name          string
		subscriptions []models.EventSubscription
		want          bool
	}{
		{"the exact type", []models.EventSubscription{to(exact)}, true},
		{"another type", []models.EventSubscription{to("sh.keptn.event.release.triggered")}, false},
		{"one token for any", []models.EventSubscription{to("sh.keptn.event.*.triggered")}, true},
		{"the rest for any", []models.EventSubscription{to("sh.keptn.>")}, true},
		{"the rest is not nothing", []models.EventSubscription{to(exact + ".>")}, false},
		{"a longer type", []models.EventSubscription{to(exact + ".x")}, false},
		{"a filter names it among others", []models.EventSubscription{filtered(exact, []string{"x", "p"}, []string{"s"}, []string{"v"})}, true},
		{"a filter that does not", []models.EventSubscription{filtered(exact, []string{"p"}, []string{"x"}, nil)}, false},
		{"any subscription is enough", []models.EventSubscription{to("x"), to(exact)}, true},
		{"none", nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := subscribed(test.subscriptions...).Match(exact, task); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// registry is Keptn's list of integrations, which forgets one at times.
type registry struct {
	mutex         sync.Mutex
	registered    int
	unregistered  int
	forgotten     bool
	subscriptions []models.EventSubscription
}

func (registry *registry) Register(context.Context, models.Integration) (string, error) {
	registry.mutex.Lock()
	defer registry.mutex.Unlock()
	registry.registered++
	registry.forgotten = false
	return "id", nil
}

func (registry *registry) Unregister(context.Context, string) error {
	registry.mutex.Lock()
	defer registry.mutex.Unlock()
	registry.unregistered++
	return nil
}

func (registry *registry) Ping(context.Context, string) (models.Integration, error) {
	registry.mutex.Lock()
	defer registry.mutex.Unlock()
	if registry.forgotten {
		return models.Integration{}, &keptn.StatusError{Code: http.StatusNotFound, Own: true}
	}
	return models.Integration{Subscriptions: registry.subscriptions}, nil
}

func TestSubscriptionsFollowKeptn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		registry := &registry{subscriptions: []models.EventSubscription{to("one")}}
		subscriptions := NewSubscriptions(registry, models.Integration{Subscriptions: []models.EventSubscription{to("first")}}, time.Second, never, discard)
		done, changed := make(chan error, 1), subscriptions.Changed()
		expect := func(want ...string) {
			t.Helper()
			if difference := cmp.Diff(want, subscriptions.Types()); difference != "" {
				t.Errorf("types (-want +got):\n%s", difference)
			}
		}
		expect("first")
		go func() { done <- subscriptions.Run(ctx) }()
		<-changed
		expect("one")
		changed = subscriptions.Changed()
		registry.mutex.Lock()
		registry.subscriptions, registry.forgotten = []models.EventSubscription{to("one"), to("two"), to("two"), to("sh.keptn.>")}, true
		registry.mutex.Unlock()
		<-changed
		expect("one", "two", "sh.keptn.>")
		if registry.registered != 2 {
			t.Errorf("it registered %d times", registry.registered)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestIntegrationIsUnregisteredOnlyIfItIsUninstalled(t *testing.T) {
	for name, uninstalled := range map[string]bool{"a restart": false, "uninstalled": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				registry := &registry{}
				subscriptions := NewSubscriptions(registry, models.Integration{}, time.Second, func(ctx context.Context) bool { return uninstalled && ctx.Err() == nil }, discard)
				if err := subscriptions.Run(ctx); err != nil {
					t.Fatal(err)
				}
				want := 0
				if uninstalled {
					want = 1
				}
				if registry.unregistered != want || registry.registered != 1 {
					t.Errorf("registered %d times, unregistered %d times", registry.registered, registry.unregistered)
				}
			})
		})
	}
}

func TestUninstalled(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: "bridge"}}
	deleted := deployment.DeepCopy()
	deleted.DeletionTimestamp, deleted.Finalizers = &metav1.Time{Time: noon}, []string{"foregroundDeletion"}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "bridge", errDown)
	answer := func(object runtime.Object, err error) func(clienttesting.Action) (bool, runtime.Object, error) {
		return func(clienttesting.Action) (bool, runtime.Object, error) { return true, object, err }
	}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "deployments"}, "bridge")
	tests := []struct {
		name           string
		started, ended func(clienttesting.Action) (bool, runtime.Object, error)
		want           bool
	}{
		{"a restart", answer(deployment, nil), answer(deployment, nil), false},
		{"deleted", answer(deployment, nil), answer(nil, missing), true},
		{"being deleted", answer(deployment, nil), answer(deleted, nil), true},
		{"its rights are deleted", answer(deployment, nil), answer(nil, forbidden), true},
		{"it never had the rights", answer(nil, forbidden), answer(nil, forbidden), false},
		{"Kubernetes is down", answer(deployment, nil), answer(nil, errDown), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := &fake.Clientset{}
			react := test.started
			client.AddReactor("get", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) { return react(action) })
			uninstalled := Uninstalled(t.Context(), client.AppsV1().Deployments("job-executor"), "bridge")
			react = test.ended
			if got := uninstalled(t.Context()); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// lister has one open event from the second look on; the first fails.
type lister struct{ looks int }

func (lister *lister) OpenTriggered(context.Context, string) ([]event.Event, error) {
	lister.looks++
	if lister.looks == 1 {
		return nil, errDown
	}
	return []event.Event{triggered(task)}, nil
}

func TestPollerGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		broker := &broker{}
		inbox := newInbox(broker, &counter{count: keptn.Count{Standing: keptn.Current}})
		lister := &lister{}
		poller := &Poller{Lister: lister, Subscriptions: inbox.subscriptions, Take: inbox.Take, Lanes: &Lanes{}, Interval: time.Second, Jitter: func(most time.Duration) time.Duration { return most }, Log: discard}
		done := make(chan error, 1)
		go func() { done <- poller.Run(ctx) }()
		time.Sleep(20 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if difference := cmp.Diff([]string{"1"}, broker.ids()); difference != "" || lister.looks < 15 {
			t.Errorf("%d looks, taken (-want +got):\n%s", lister.looks, difference)
		}
	})
}

func TestPollerTellsWhatBringsNothing(t *testing.T) {
	for name, alone := range map[string]bool{"over HTTP": true, "beside NATS": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var log strings.Builder
				poller := &Poller{
					Lister: &lister{}, Subscriptions: subscribed(to("sh.keptn.event.*.triggered")), Interval: time.Second, Alone: alone,
					Jitter: func(most time.Duration) time.Duration { return most }, Log: slog.New(slog.NewTextHandler(&log, nil)),
				}
				if err := poller.Run(ctx); err != nil {
					t.Fatal(err)
				}
				want := 0
				if alone {
					want = 1
				}
				if got := strings.Count(log.String(), "sh.keptn.event.*.triggered"); got != want {
					t.Errorf("it was told %d times: %s", got, &log)
				}
			})
		})
	}
}

func newGrants(now func() time.Time) *Grants {
	return &Grants{Key: []byte(strings.Repeat("k", grantKeyBytes)), Lifetime: time.Hour, Now: now}
}

func TestGrantsAreGoodForWhatWasSignedUntilTheyExpire(t *testing.T) {
	scope := keptn.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"}
	at := func(later time.Duration) func() time.Time { return func() time.Time { return noon.Add(later) } }
	other := newGrants(at(0))
	other.Key = []byte(strings.Repeat("x", grantKeyBytes))
	tests := []struct {
		name   string
		signed *Grants
		change func(string) string
		when   time.Duration
		err    string
	}{
		{"at once", newGrants(at(0)), nil, 0, ""},
		{"shortly before the end", newGrants(at(0)), nil, time.Hour, ""},
		{"not after it", newGrants(at(0)), nil, time.Hour + 2*time.Minute, "it is not valid: go-jose/go-jose/jwt: validation failed, token is expired (exp)"},
		{"not if another signed it", other, nil, 0, "its signature is wrong"},
		{"not if it was changed", newGrants(at(0)), func(grant string) string { return grant[:len(grant)-4] + "AAAA" }, 0, "its signature is wrong"},
		{"not if it is something else", newGrants(at(0)), func(string) string { return "password" }, 0, "it is no grant"},
		{"not without a signature", newGrants(at(0)), func(string) string { return "eyJhbGciOiJub25lIn0.e30." }, 0, "it is no grant"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := test.signed.Sign(scope)
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				grant = test.change(grant)
			}
			got, err := newGrants(at(test.when)).Check(grant)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err || err == nil && got != scope {
				t.Errorf("got %+v, %q; want %q", got, message, test.err)
			}
		})
	}
}

func TestGrantKeyOutlivesRestarts(t *testing.T) {
	secrets := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: "key"}}).CoreV1().Secrets("job-executor")
	first, err := LoadGrantKey(t.Context(), secrets, "key")
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadGrantKey(t.Context(), secrets, "key")
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != grantKeyBytes || string(first) != string(second) {
		t.Error("the key changed")
	}
}

// resources answers with what it was asked for.
type resources struct{ err error }

func (resources resources) Resource(_ context.Context, scope keptn.ResourceScope, path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("%+v %s", scope, path))), resources.err
}

func (resources resources) ResourcePaths(context.Context, keptn.ResourceScope) ([]string, error) {
	return []string{"a", "b/c"}, resources.err
}

type reviewer map[string]string

func (reviewer reviewer) Review(_ context.Context, token string) (string, error) {
	if user, ok := reviewer[token]; ok {
		return user, nil
	}
	return "", errors.New("it is not valid")
}

func TestGateway(t *testing.T) {
	wanted, err := json.Marshal(keptn.Task{TriggeredID: "1", Name: "test", Project: "p", Stage: "s", Service: "v", GitCommitID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	over := aborted
	grants := newGrants(func() time.Time { return noon })
	valid, err := grants.Sign(keptn.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, method, path, task, bearer string
		count                            keptn.Count
		err                              error
		status                           int
		body                             string
	}{
		{"an executor gets a grant", "POST", "/grant", string(wanted), "executor's", current, nil, 200, valid},
		{"nobody else does", "POST", "/grant", string(wanted), "other's", current, nil, 403, "other may not ask for grants\n"},
		{"nor who is not known", "POST", "/grant", string(wanted), "", current, nil, 401, "a service account token for the audience job-executor-bridge is needed: it is not valid\n"},
		{"a grant is for a service", "POST", "/grant", `{"project":"p"}`, "executor's", current, nil, 400, "project, stage and service are needed\n"},
		{"a grant is for a task", "POST", "/grant", "[]", "executor's", current, nil, 400, "the task can't be read: json: cannot unmarshal array into Go value of type keptn.Task\n"},
		{"that Keptn waits for", "POST", "/grant", string(wanted), "executor's", over, nil, 410, "Keptn no longer waits for task 1\n"},
		{"and that it knows", "POST", "/grant", string(wanted), "executor's", keptn.Count{}, nil, 503, "Keptn does not know task 1\n"},
		{"if it is known", "POST", "/grant", string(wanted), "executor's", over, errDown, 502, "it is down\n"},
		{"a file of the service", "GET", "/resource?level=service&path=x/y", "", valid, current, nil, 200, "{Project:p Stage:s Service:v GitCommitID:c} x/y"},
		{"a file of the stage", "GET", "/resource?level=stage&path=x", "", valid, current, nil, 200, "{Project:p Stage:s Service: GitCommitID:c} x"},
		{"a file of the project, at no commit", "GET", "/resource?level=project&path=x", "", valid, current, nil, 200, "{Project:p Stage: Service: GitCommitID:} x"},
		{"a listing", "GET", "/resource?level=service", "", valid, current, nil, 200, `["a","b/c"]`},
		{"no other level", "GET", "/resource?level=all", "", valid, current, nil, 400, "level must be service, stage or project\n"},
		{"nothing without a grant", "GET", "/resource?level=service&path=x", "", "executor's", current, nil, 401, "a grant of the bridge is needed: it is no grant\n"},
		{"what Keptn does not have", "GET", "/resource?level=service&path=x", "", valid, current, &keptn.StatusError{Code: 404, Message: "Resource not found", Request: "GET /x", Own: true}, 404, "Keptn answered GET /x with 404: Resource not found\n"},
		{"what a proxy says it does not have", "GET", "/resource?level=service&path=x", "", valid, current, &keptn.StatusError{Code: 404, Message: "<html>", Request: "GET /x"}, 502, "Keptn answered GET /x with 404: <html>\n"},
		{"what Keptn can't give", "GET", "/resource?level=service&path=x", "", valid, current, errDown, 502, "it is down\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gateway := &Gateway{Resources: resources{test.err}, Counter: &counter{test.count, test.err}, Reporter: starter{}, Reviewer: reviewer{"executor's": "executor", "other's": "other"}, Grants: grants, Subjects: []string{"executor"}, Cache: NewFileCache(), Log: discard}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			request := httptest.NewRequestWithContext(t.Context(), test.method, test.path, strings.NewReader(test.task))
			request.Header.Set("Authorization", "Bearer "+test.bearer)
			recorder := httptest.NewRecorder()
			mux.ServeHTTP(recorder, request)
			body, err := io.ReadAll(recorder.Body)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff([]any{test.status, test.body}, []any{recorder.Code, string(body)}); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// An executor is told that a run has begun, so that it does not begin again.
func TestGrantTellsThatARunHasBegun(t *testing.T) {
	for name, test := range map[string]struct {
		count keptn.Count
		heard bool
		want  string
	}{
		"nobody has answered":                     {current, false, ""},
		"Keptn has our started event":             {running, false, "true"},
		"it was heard of, and Keptn knows it not": {current, true, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := &Gateway{
				Counter: &counter{count: test.count}, Reporter: starter{test.heard}, Reviewer: reviewer{"executor's": "executor"},
				Grants: newGrants(time.Now), Subjects: []string{"executor"}, Log: discard,
			}
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/grant", strings.NewReader(`{"triggeredID":"1","project":"p","stage":"s","service":"v"}`))
			request.Header.Set("Authorization", "Bearer executor's")
			recorder := httptest.NewRecorder()
			gateway.grant(recorder, request)
			if got := recorder.Header().Get(TaskStartedHeader); recorder.Code != http.StatusOK || got != test.want {
				t.Errorf("got %d, %q", recorder.Code, got)
			}
		})
	}
}

// file is a file of a number of bytes, of which the last can't be read if it is
// broken.
type file struct {
	size   int
	broken bool
	asked  int
}

func (file *file) Resource(context.Context, keptn.ResourceScope, string) (io.ReadCloser, error) {
	file.asked++
	content := io.LimitReader(zeros{}, int64(file.size))
	if file.broken {
		content = io.MultiReader(content, iotest.ErrReader(errDown))
	}
	return io.NopCloser(content), nil
}

func (file *file) ResourcePaths(context.Context, keptn.ResourceScope) ([]string, error) {
	return nil, errDown
}

type zeros struct{}

func (zeros) Read(buffer []byte) (int, error) { return len(buffer), nil }

func TestFilesAreStreamedBoundedAndCached(t *testing.T) {
	tests := []struct {
		name   string
		file   file
		commit string
		tag    string
		want   []any // status, bytes, complete, times that Keptn was asked for two requests
	}{
		{"a small file at a commit is asked for once", file{size: 1000}, "c", "", []any{200, int64(1000), true, 1}},
		{"at no commit it may have changed", file{size: 1000}, "", "", []any{200, int64(1000), true, 2}},
		{"a large file is not kept", file{size: 10 << 20}, "c", "", []any{200, int64(10 << 20), true, 2}},
		{"a too large file is cut off, not cut short", file{size: maxFileBytes + 1}, "c", "", []any{200, int64(0), false, 2}},
		{"so is one that breaks off", file{size: 10 << 20, broken: true}, "c", "", []any{200, int64(0), false, 2}},
		{"one that breaks off early is an error", file{size: 10, broken: true}, "c", "", []any{502, int64(len("it is down\n")), true, 2}},
		{"who has it need not ask", file{size: 1000}, "c", `"c"`, []any{304, int64(0), true, 0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grants := newGrants(time.Now)
			gateway := &Gateway{Resources: &test.file, Grants: grants, Cache: NewFileCache(), Log: discard}
			mux := http.NewServeMux()
			for pattern, handler := range gateway.Routes() {
				mux.Handle(pattern, handler)
			}
			server := httptest.NewServer(mux)
			defer server.Close()
			grant, err := grants.Sign(keptn.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: test.commit})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/resource?level=service&path=x", nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+grant)
				request.Header.Set("If-None-Match", test.tag)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				read, err := io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if err != nil {
					read = 0
				}
				if difference := cmp.Diff(test.want[:3], []any{response.StatusCode, read, err == nil}); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			}
			if test.file.asked != test.want[3] {
				t.Errorf("Keptn was asked %d times", test.file.asked)
			}
		})
	}
}

// delivered keeps the last event.
type delivered struct {
	last                      event.Event
	dropped, settled, aborted bool
	err                       error
}

func (delivered *delivered) Deliver(_ context.Context, outgoing event.Event, _ time.Time) (keptn.Delivery, error) {
	delivered.last = outgoing
	return keptn.Delivery{Sent: delivered.err == nil && !delivered.dropped, Settled: delivered.settled, Aborted: delivered.aborted}, delivered.err
}

// journal keeps Keptn's log.
type journal struct {
	entries []models.LogEntry
	err     error
}

func (journal *journal) Log(_ context.Context, entry models.LogEntry) error {
	journal.entries = append(journal.entries, entry)
	return journal.err
}

func integrationID() string { return "id" }

// never says that nothing is uninstalled.
func never(context.Context) bool { return false }

func TestErrorsAppearInKeptnsLog(t *testing.T) {
	entry := func(message string) []models.LogEntry {
		return []models.LogEntry{{IntegrationID: "id", Message: message, Time: noon, KeptnContext: task.Context, Task: "test", TriggeredID: "1"}}
	}
	tests := []struct {
		name      string
		told      event.Event
		id        string
		dropped   bool
		err       error
		want      []models.LogEntry
		wantError bool
	}{
		{"a finished event that is errored", task.Finished(noon, keptn.Errored("it broke")), "id", false, nil, entry("it broke"), false},
		{"even if the log can't be written, it has been sent", task.Finished(noon, keptn.Errored("it broke")), "id", false, errDown, entry("it broke"), false},
		{"not one that was dropped", task.Finished(noon, keptn.Errored("it broke")), "id", true, nil, nil, false},
		{"nor one that passed", task.Finished(noon, keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}), "id", false, nil, nil, false},
		{"nor a started one", task.Started(noon), "id", false, nil, nil, false},
		{"an error without a finished event", task.LogError(noon, "silent, but broken"), "id", false, nil, entry("silent, but broken"), false},
		{"which is repeated if the log can't be written", task.LogError(noon, "silent, but broken"), "id", false, errDown, entry("silent, but broken"), true},
		{"or if there is no registration yet", task.LogError(noon, "silent, but broken"), "", false, nil, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			journal := &journal{err: test.err}
			outbox := &Outbox{
				Keptn: &delivered{dropped: test.dropped}, Journal: journal, IntegrationID: func() string { return test.id }, Runs: newRuns(nil, nil, nil), Log: discard,
			}
			if _, err := outbox.Handle(t.Context(), test.told); (err != nil) != test.wantError {
				t.Errorf("got %v", err)
			}
			if difference := cmp.Diff(test.want, journal.entries); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestOutboxSaysWhatIsWorthRepeating(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("sending: %w", &keptn.StatusError{Code: code}) }
	tests := []struct {
		name      string
		err       error
		permanent bool
	}{
		{"Keptn took it", nil, false},
		{"Keptn is down", errDown, false},
		{"Keptn is busy", status(429), false},
		{"the token is wrong for now", status(401), false},
		{"Keptn refuses the event", status(400), true},
		{"it is too large for Keptn", status(413), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			outbox := &Outbox{Keptn: &delivered{err: test.err}, Runs: newRuns(nil, nil, nil), Now: func() time.Time { return noon }, Log: discard}
			_, err := outbox.Handle(t.Context(), task.Started(noon))
			if function.IsPermanent(err) != test.permanent || (err == nil) != (test.err == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOutboxLeavesOutWhatTheBrokerAdded(t *testing.T) {
	keptnsSide := &delivered{}
	routed := task.Started(noon)
	want := routed.Clone()
	routed.SetExtension("knativearrivaltime", "2026-11-24T12:00:00Z")
	routed.SetExtension("traceparent", "00-4ed578f61e1e4a119b2e9a7111760f5b-00f067aa0ba902b7-01")
	if _, err := (&Outbox{Keptn: keptnsSide, Runs: newRuns(nil, nil, nil), Log: discard}).Handle(t.Context(), routed); err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(want.String(), keptnsSide.last.String()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Keptn has a result only when it says so; then the run is reported, and not before. A
// run that begins as its sequence is aborted, which nobody looks after yet, is cancelled.
func TestOutboxAnswersForTheRun(t *testing.T) {
	started, finished := task.Started(noon), task.Finished(noon, keptn.Errored(""))
	tests := []struct {
		name             string
		answer           event.Event
		settled, aborted bool
		want             string
	}{
		{"Keptn has counted its result", finished, true, false, "1-reported"},
		{"Keptn has only taken its result", finished, false, false, ""},
		{"it ended, and its sequence was aborted", finished, true, true, "1-reported"},
		{"it begins", started, false, false, ""},
		{"it begins, and its sequence was aborted", started, true, true, "1-cancelled"},
		{"Keptn is told that it began, and has its result", started, true, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keptnsSide := &delivered{settled: test.settled, aborted: test.aborted}
			outbox := &Outbox{Keptn: keptnsSide, Journal: &journal{}, IntegrationID: integrationID, Runs: newRuns(nil, nil, nil), Source: "ours", Now: func() time.Time { return noon }, Log: discard}
			reply, err := outbox.Handle(t.Context(), test.answer)
			id := ""
			if reply != nil {
				id = reply.ID()
			}
			if err != nil || id != test.want {
				t.Errorf("got %q, %v", id, err)
			}
		})
	}
}

func TestUndeliveredTaskIsAskedForWithTheReason(t *testing.T) {
	const brokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	tests := []struct {
		name, destination string
		want              []string
	}{
		{"no executor could take it", "http://executor-test.job-executor.svc.cluster.local", []string{"1: Job Executor could not take this task: status 503: reading job/config.yaml: 502"}},
		{"Knative does not say where it failed", "", []string{"1: Job Executor could not take this task: status 503: reading job/config.yaml: 502"}},
		{"an executor took it, and its reply failed", brokerURL, nil},
		{"its reply failed at the Broker's channel", "http://broker-ingress.knative-eventing.svc.cluster.local/other", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			undelivered := triggered(task)
			undelivered.SetExtension("knativeerrorcode", 503)
			undelivered.SetExtension("knativeerrordata", "cmVhZGluZyBqb2IvY29uZmlnLnlhbWw6IDUwMg==")
			undelivered.SetExtension("knativeerrordest", test.destination)
			var asked []string
			outbox := &Outbox{BrokerURL: brokerURL, Log: discard, Ask: func(_ context.Context, task keptn.Task, reason string) error {
				asked = append(asked, task.TriggeredID+": "+reason)
				return nil
			}}
			if _, err := outbox.HandleUndelivered(t.Context(), undelivered); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, asked); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			if _, err := outbox.HandleUndelivered(t.Context(), task.Finished(noon, keptn.Errored(""))); err == nil || function.IsPermanent(err) {
				t.Errorf("a finished event was given up: %v", err)
			}
		})
	}
}

// hundred lists many events of each type; what is broken is not listed, or only after
// Keptn's longest time, or has an executor that does not come up.
type hundred struct{ broken string }

const manyEvents = 3 * concurrentSends

func (hundred hundred) OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error) {
	switch {
	case eventType != stuckType:
	case hundred.broken == "is not listed":
		return nil, errDown
	case hundred.broken == "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var events []event.Event
	for index := range manyEvents {
		made := triggered(task)
		made.SetType(eventType)
		made.SetID(fmt.Sprintf("%s-%d", eventType, index))
		events = append(events, made)
	}
	return events, nil
}

const stuckType = "sh.keptn.event.stuck.triggered"

func TestOneTypeDoesNotHoldUpTheOthers(t *testing.T) {
	for _, broken := range []string{"is not listed", "hangs", "has an executor that does not come up"} {
		t.Run(broken, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var mutex sync.Mutex
				taken := map[string]int{}
				subscriptions := []models.EventSubscription{to(stuckType)}
				for index := range 99 {
					subscriptions = append(subscriptions, to(fmt.Sprintf("sh.keptn.event.test-%d.triggered", index)))
				}
				poller := &Poller{
					Lister: hundred{broken}, Subscriptions: subscribed(subscriptions...), Lanes: &Lanes{}, Interval: time.Second,
					Take: func(ctx context.Context, triggered event.Event, _ Origin) error {
						if triggered.Type() == stuckType {
							<-ctx.Done()
							return ctx.Err()
						}
						mutex.Lock()
						defer mutex.Unlock()
						taken[triggered.ID()]++
						return nil
					},
					Jitter: func(time.Duration) time.Duration { return 0 }, Log: discard,
				}
				go func() { _ = poller.Run(ctx) }()
				time.Sleep(10500 * time.Millisecond)
				mutex.Lock()
				defer mutex.Unlock()
				for index := range 99 {
					// The first third fills the lane at once; the others are listed again.
					if times := taken[fmt.Sprintf("sh.keptn.event.test-%d.triggered-%d", index, manyEvents-1)]; times < 10 {
						t.Fatalf("events of type %d were taken %d times in ten seconds", index, times)
					}
				}
			})
		})
	}
}

func TestPollerListsOnlyWhatIsSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		subscriptions := subscribed(to("sh.keptn.event.test.triggered"))
		taken := make(chan string, 10*manyEvents)
		poller := &Poller{
			Lister: hundred{}, Subscriptions: subscriptions, Lanes: &Lanes{}, Interval: time.Hour,
			Take:   func(_ context.Context, triggered event.Event, _ Origin) error { taken <- triggered.Type(); return nil },
			Jitter: func(time.Duration) time.Duration { return 0 }, Log: discard,
		}
		go func() { _ = poller.Run(ctx) }()
		synctest.Wait()
		if len(taken) != manyEvents {
			t.Errorf("of %d events that were listed %d were taken, before they were listed again", manyEvents, len(taken))
		}
		for range len(taken) {
			<-taken
		}
		subscriptions.mutex.Lock()
		subscriptions.replace([]models.EventSubscription{to("sh.keptn.event.deployment.triggered")})
		subscriptions.mutex.Unlock()
		synctest.Wait()
		if len(taken) == 0 {
			t.Error("what is subscribed now was not listed at once")
		}
		poller.Soon()
		synctest.Wait()
		for range len(taken) {
			if got := <-taken; got != "sh.keptn.event.deployment.triggered" {
				t.Fatalf("%s was taken", got)
			}
		}
	})
}

func TestSourceTellsInstallationsApart(t *testing.T) {
	configuration := Configuration{IntegrationName: "job-executor", Namespace: "job-executor"}
	one, other := SourceOf(configuration, []byte("one")), SourceOf(configuration, []byte("other"))
	if one == other || one != SourceOf(configuration, []byte("one")) || !strings.HasPrefix(one, keptn.Source+"-") || len(one) != len(keptn.Source)+9 {
		t.Errorf("got %s and %s", one, other)
	}
}
