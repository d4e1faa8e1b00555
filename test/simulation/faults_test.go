package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/embedded"
)

// harshness is the set of special faults of a world.
type harshness struct {
	// busy is true if Keptn counts late and answers only twenty requests a second.
	busy bool
	// asynchronous is true if the Broker answers before it delivers.
	asynchronous bool
	// deduplicates is true if an asynchronous Broker drops an event whose id it had in the last two minutes, as channels in
	// NATS JetStream do by default.
	deduplicates bool
	// vague is true if dead letters do not say what failed, like those of RabbitMQ's Broker.
	vague bool
	// stuck is true if one executor never answers.
	stuck bool
	// skewed is true if the clocks of Keptn and Kubernetes jump.
	skewed bool
	// many is true for a hundred namespaces and a hundred types, one of each broken.
	many bool
	// capped is true if the active runs of a project are limited to a few.
	capped bool
	// validates is true if Keptn's API validates events.
	validates bool
	// upgraded is true if the functions are upgraded one after the other to a release with another version of
	// events, and rolled back.
	upgraded bool
}

func harshnessOf(seed uint64) harshness {
	return harshness{
		busy:         seed%3 == 0,
		asynchronous: seed%4 < 2,  // a half, over either transport
		deduplicates: seed%8 < 2,  // a half of the asynchronous
		vague:        seed%4 == 1, // the same
		stuck:        seed%5 == 0,
		skewed:       seed%7 == 0,
		many:         seed%11 == 0,
		capped:       seed%3 == 2,
		validates:    seed%4 == 2, // a half of those over HTTP
		upgraded:     seed%5 == 1,
	}
}

// outages are the current failures.
type outages struct {
	keptnDown, datastoreDown, apiDown, namespaceDown, keptnSlow, crowded atomic.Bool
	// keptnDeaths is how often Keptn went down.
	keptnDeaths atomic.Int64
	// foreign is a proxy's answer instead of Keptn's; 0 is none.
	foreign atomic.Int32
	// keptnClock and kubernetesClock are clock errors.
	keptnClock, kubernetesClock atomic.Int64
}

func wrong(by *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Duration(by.Load())) }
}

const (
	// The last Job of a task runs in loadNamespace. brokenNamespace lacks roles, and Keptn cannot list
	// brokenType.
	loadNamespace   = "load-tests"
	brokenNamespace = "broken"
	brokenType      = "sh.keptn.event.broken.triggered"
	others          = 97
)

// namespaces returns the namespaces of Jobs.
func (w *world) namespaces() []string {
	names := []string{"job-executor-jobs", loadNamespace}
	if w.many {
		names = append(names, brokenNamespace)
		for index := range others {
			names = append(names, fmt.Sprintf("namespace-%d", index))
		}
	}
	return names
}

// types returns the bridge's subscriptions.
func (w *world) types() []string {
	names := []string{"sh.keptn.event.deployment.triggered", "sh.keptn.event.test.triggered", "sh.keptn.event.approval.triggered",
		"sh.keptn.event.get-sli.triggered", observedType}
	if w.many {
		names = append(names, brokenType)
		for index := range others {
			names = append(names, fmt.Sprintf("sh.keptn.event.type-%d.triggered", index))
		}
	}
	return names
}

// react makes the API server reject requests.
func (w *world) react() {
	w.cluster.React("list", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		// Roles are deleted with their namespace.
		refused := action.GetNamespace() == brokenNamespace || action.GetNamespace() == loadNamespace && w.namespaceDown.Load()
		return refused, nil, apierrors.NewForbidden(jobs, "", errors.New("no role"))
	})
	w.cluster.React("create", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		refused := action.GetNamespace() == loadNamespace && w.namespaceDown.Load()
		return refused, nil, apierrors.NewForbidden(jobs, "", errors.New("the namespace is being terminated"))
	})
	w.cluster.React("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return w.apiDown.Load(), nil, errAPIDown
	})
}

var errAPIDown = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

// fateOf decides the fate of a Job's pod.
func (w *world) fateOf(job *batchv1.Job) embedded.Fate {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	fate, decided := w.fates[job.Name]
	switch {
	case decided:
		return fate
	case w.planned != nil:
		fate = w.planned.fate
		w.planned.fate = embedded.Runs
	case w.faulty():
		const each = 0.01
		draw := w.chance.draw("fate of %s", job.Name).Float64()
		fates := []embedded.Fate{embedded.Refused, embedded.Unschedulable, embedded.NodeLost}
		if index := int(draw / each); index < len(fates) {
			fate = fates[index]
		}
	}
	w.fates[job.Name] = fate
	return fate
}

// deletePod deletes the pod of a Job after a while; it may just have succeeded.
func (w *world) deletePod(job *batchv1.Job, random *rand.Rand) {
	w.mutex.Lock()
	w.touched[runOf(job.Name)] = true
	w.mutex.Unlock()
	time.Sleep(between(random, time.Millisecond, 10*time.Second))
	client := w.cluster.Client(nil).CoreV1().Pods(job.Namespace)
	list, err := client.List(w.ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
	if err != nil {
		return
	}
	for index := range list.Items {
		w.note("others delete pod %s", list.Items[index].Name)
		_ = client.Delete(w.ctx, list.Items[index].Name, metav1.DeleteOptions{})
	}
}

// hidesLog reports whether the logs of a pod cannot be read: those on a lost node, and some others.
func (w *world) hidesLog(pod string) (hides, hangs bool) {
	job := pod[:strings.LastIndex(pod, "-")]
	w.mutex.Lock()
	defer w.mutex.Unlock()
	fate, draw := w.fates[job], 1.0
	if w.planned == nil {
		draw = rand.New(rand.NewPCG(w.chance.seed, hashed("logs of "+job))).Float64()
	}
	return fate == embedded.NodeLost || draw < 0.04 || w.planned != nil && w.planned.hidesLogs, draw < 0.02
}

// occasionally starts and ends a fault again and again.
func (w *world) occasionally(what string, quietFor time.Duration, lasts func(random *rand.Rand) time.Duration, begin func(random *rand.Rand), end func()) {
	for w.faulty() && w.ctx.Err() == nil {
		random := w.chance.draw("%s", what)
		w.pass(between(random, time.Second, quietFor))
		if !w.faulty() {
			return
		}
		w.note("%s", what)
		begin(random)
		w.pass(lasts(random))
		end()
		w.note("no more: %s", what)
	}
}

// pass waits as long as there are faults, up to a limit.
func (w *world) pass(most time.Duration) {
	for until := time.Now().Add(most); time.Now().Before(until) && w.faulty(); {
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(min(time.Second, time.Until(until))):
		}
	}
}

// upTo returns a source of the length of outages: mostly seconds, sometimes as long as the longest.
func upTo(seldom, longest time.Duration) func(random *rand.Rand) time.Duration {
	return func(random *rand.Rand) time.Duration {
		const often = 30 * time.Second
		switch draw := random.Float64(); {
		case draw < 0.1: //nolint:mnd // at times
			return between(random, time.Second, longest)
		case draw < 0.3: //nolint:mnd // at times
			return between(random, time.Second, seldom)
		default:
			return between(random, time.Second, often)
		}
	}
}

// beginOutages starts all temporary faults.
func (w *world) beginOutages() {
	const quiet = 4 * time.Minute
	go w.occasionally("Keptn is down", 2*quiet, upTo(70*time.Second, 10*time.Minute),
		func(*rand.Rand) { w.keptnDown.Store(true); w.keptnDeaths.Add(1) }, func() { w.keptnDown.Store(false) })
	go w.occasionally("mongodb-datastore is down", 2*quiet, upTo(70*time.Second, 10*time.Minute),
		func(*rand.Rand) { w.datastoreDown.Store(true) }, func() { w.datastoreDown.Store(false) })
	go w.occasionally("something else answers for Keptn", 2*quiet, upTo(70*time.Second, 5*time.Minute),
		func(random *rand.Rand) { w.foreign.Store(1 + random.Int32N(int32(len(foreignAnswers)))) }, func() { w.foreign.Store(0) })
	go w.occasionally("Keptn is slow", 2*quiet, upTo(70*time.Second, 5*time.Minute),
		func(*rand.Rand) { w.keptnSlow.Store(true) }, func() { w.keptnSlow.Store(false) })
	go w.occasionally("the API server is down", 2*quiet, upTo(time.Minute, 3*time.Minute),
		func(*rand.Rand) { w.apiDown.Store(true) }, func() { w.apiDown.Store(false) })
	// The API server reads all events of a namespace for each search.
	go w.occasionally("the namespaces have thousands of events", 2*quiet, upTo(70*time.Second, 10*time.Minute),
		func(*rand.Rand) { w.crowded.Store(true) }, func() { w.crowded.Store(false) })
	go w.occasionally("a namespace is deleted", 4*quiet, upTo(time.Minute, 3*time.Minute),
		func(*rand.Rand) { w.deleteNamespace() }, func() { w.namespaceDown.Store(false) })
	if !w.skewed { // otherwise nobody knows whether a Secret changed before or after the start of a task
		go w.occasionally("the Secret changes", quiet, upTo(10*time.Second, time.Minute), w.changeSecret, w.makeSecret)
	}
	if w.skewed {
		for name, clock := range map[string]*atomic.Int64{"Keptn's clock jumps": &w.keptnClock, "Kubernetes' clock jumps": &w.kubernetesClock} {
			go w.occasionally(name, 2*quiet, upTo(2*time.Second, time.Minute), func(random *rand.Rand) {
				const most = 10 * time.Minute
				clock.Store(int64(between(random, -most, most)))
			}, func() {})
		}
	}
	if w.upgraded {
		version := signature.Version
		replace := func(random *rand.Rand) {
			version = 2*signature.Version + 1 - version
			w.replaceAll(random, version)
		}
		go w.occasionally("the release changes", quiet, upTo(time.Minute, 3*time.Minute), replace, func() {})
	}
	go w.meddle()
}

// replaceAll replaces the functions one after the other, within three minutes, by those of a release with another
// version of events. The Broker retries longer than that.
func (w *world) replaceAll(random *rand.Rand, version int) {
	w.mutex.Lock()
	names := slices.Sorted(maps.Keys(w.processes))
	w.mutex.Unlock()
	names = slices.DeleteFunc(names, func(name string) bool { return name == "broker" })
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		w.pass(between(random, time.Millisecond, 3*time.Minute/time.Duration(len(names))))
		w.mutex.Lock()
		w.versions[name] = version
		replaced := w.processes[name]
		w.mutex.Unlock()
		w.note("%s now has events of version %d", name, version)
		w.happen("a function was replaced by one of another release")
		replaced.die()
	}
}

func (w *world) touch(job *batchv1.Job) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.touched[runOf(job.Name)] = true
	w.early[runOf(job.Name)] = w.early[runOf(job.Name)] || len(w.counted[job.Labels[run.EventIDLabel]]) == 0
}

// deleteNamespace deletes everything in a namespace. Until then, the namespace accepts nothing new.
func (w *world) deleteNamespace() {
	client := w.cluster.Client(nil).BatchV1().Jobs(loadNamespace)
	list, err := client.List(w.ctx, metav1.ListOptions{LabelSelector: run.Selector})
	if err != nil {
		return
	}
	w.namespaceDown.Store(true)
	for index := range list.Items {
		w.touch(&list.Items[index])
		_ = client.Delete(w.ctx, list.Items[index].Name, metav1.DeleteOptions{})
	}
}

// meddle deletes running and waiting Jobs, and resumes waiting ones, like another user.
func (w *world) meddle() {
	for w.faulty() && w.ctx.Err() == nil {
		random := w.chance.draw("others")
		w.pass(between(random, time.Second, 20*time.Second))
		if !w.faulty() {
			return
		}
		list, err := w.cluster.Client(nil).BatchV1().Jobs("").List(w.ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil {
			continue
		}
		active := slices.DeleteFunc(list.Items, func(job batchv1.Job) bool { return !run.IsActive(&job) })
		if len(active) == 0 {
			continue
		}
		slices.SortFunc(active, func(one, other batchv1.Job) int { return strings.Compare(one.Name, other.Name) })
		w.meddleWith(&active[random.IntN(len(active))], random.Float64() < 0.5) //nolint:mnd // half of them
	}
}

// meddleWith resumes or deletes a waiting Job.
func (w *world) meddleWith(job *batchv1.Job, resumes bool) {
	w.touch(job)
	client := w.cluster.Client(nil).BatchV1().Jobs(job.Namespace)
	if run.PhaseOf(job) == run.Waiting && resumes {
		w.note("others resume Job %s", job.Name)
		_, _ = client.Patch(w.ctx, job.Name, types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{})
		return
	}
	w.note("others delete Job %s", job.Name)
	_ = client.Delete(w.ctx, job.Name, metav1.DeleteOptions{})
}

// rival is the source of another integration.
const rival = "somebody-else"

// isTouched reports whether another user deleted or resumed a Job of a run.
func (w *world) isTouched(job string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.touched[runOf(job)]
}

// published is called for each task that Keptn triggers. Another integration answers some of them.
func (w *world) published(content []byte) {
	triggered, err := keptn.DecodeEvent(content)
	if err != nil {
		w.violate("Keptn published what is no event: %v", err)
		return
	}
	task, _, err := keptn.ParseTask(triggered)
	if err != nil {
		w.violate("Keptn published what is no task: %v", err)
		return
	}
	random := w.chance.draw("rival for %s", task.TriggeredID)
	answers := w.faulty() && jobsOf[task.Name] > 0 && random.Float64() < 0.05
	w.mutex.Lock()
	w.contexts[runOf(run.Name(run.ID(task.TriggeredID), 0, 0))] = task.Context
	w.rivals[task.TriggeredID] = answers
	w.opened[task.TriggeredID] = time.Now()
	w.mutex.Unlock()
	if !answers {
		return
	}
	go func() {
		for _, answer := range []event.Event{
			task.Event(keptn.Started, time.Now(), keptn.Outcome{}),
			task.Event(keptn.Finished, time.Now(), keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}),
		} {
			time.Sleep(between(random, 2*time.Second, 2*time.Minute))
			if w.ctx.Err() != nil {
				return
			}
			answer.SetSource(rival)
			answer.SetID(w.chance.id("rival"))
			w.ask(http.MethodPost, "/v1/event", answer, nil)
		}
	}()
}

// atGateway returns Keptn for the bridge.
func (w *world) atGateway(gateway http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		w.mutex.Lock()
		w.requests++
		if strings.Contains(request.URL.Path, "sequence-execution") {
			w.questions++
			w.traffic.questions[request.URL.Query().Get("keptnContext")]++
		}
		w.mutex.Unlock()
		w.queue(request)
		if strings.HasSuffix(request.URL.Path, "/log") {
			body, _ := io.ReadAll(request.Body)
			w.searchLeaks("Keptn's log", body)
			request.Body = io.NopCloser(bytes.NewReader(body))
		}
		if strings.Contains(request.URL.Path, brokenType) {
			<-request.Context().Done() // it never answers
			return
		}
		if w.keptnDown.Load() {
			http.Error(writer, "Keptn is down", http.StatusServiceUnavailable)
			return
		}
		if foreign := w.foreign.Load(); foreign > 0 {
			answer := foreignAnswers[foreign-1]
			writer.WriteHeader(answer.status)
			_, _ = writer.Write([]byte(answer.body))
			return
		}
		gateway.ServeHTTP(writer, request)
	})
}

// queue delays a request while Keptn is slow.
func (w *world) queue(request *http.Request) {
	var pause time.Duration
	if w.busy && (w.faulty() || w.planned != nil) {
		const each = 50 * time.Millisecond
		now := time.Now()
		w.mutex.Lock()
		if w.free.Before(now) {
			w.free = now
		}
		pause = w.free.Sub(now)
		w.free = w.free.Add(each)
		w.mutex.Unlock()
	}
	if w.keptnSlow.Load() {
		pause += between(w.chance.draw("Keptn is slow with %s %s", request.Method, request.URL), time.Second, 30*time.Second)
	}
	if pause == 0 {
		return
	}
	if request.Method == http.MethodPost {
		time.Sleep(pause) // Keptn handles it even if its sender is dead by then
		return
	}
	select {
	case <-request.Context().Done():
	case <-time.After(pause):
	}
}

// unstored reports whether mongodb-datastore is down, and so never gets an event, or does not answer if the type is
// empty. It gets those of get-sli tasks, which nobody else knows.
func (w *world) unstored(eventType string) bool {
	return w.datastoreDown.Load() && !strings.Contains(eventType, "get-sli") && !strings.Contains(eventType, "evaluation")
}

// foreignAnswers are answers of a proxy in front of Keptn.
var foreignAnswers = []struct {
	status int
	body   string
}{
	{http.StatusNotFound, "<html>404</html>"}, {http.StatusBadGateway, "<html>502</html>"}, {http.StatusServiceUnavailable, "<html>503</html>"},
	{http.StatusOK, "{}"}, {http.StatusOK, "null"}, {http.StatusOK, `{"sequenceExecutions":[{"status`}, {http.StatusOK, "<html>hello</html>"},
}

// misreads reports whether the filter of a Trigger fails to read an event in time. Knative's did so on a busy
// machine.
func (w *world) misreads(trigger string, received event.Event) bool {
	const seldom = 0.003
	if w.planned != nil || !w.faulty() || w.chance.draw("the filter of %s reads %s %s", trigger, received.Type(), received.ID()).Float64() >= seldom {
		return false
	}
	if trigger == "executor-observed" {
		w.mutex.Lock()
		w.undelivered[keptn.Unwrap(received).ID()] = true
		w.mutex.Unlock()
	}
	return true
}

// laterBroker is a Broker like Kafka's or RabbitMQ's: it answers before it delivers, and so may lose events. It
// delivers in any order, some events twice, and a few minutes late.
func (w *world) laterBroker(broker *embedded.Broker, p *process) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			writer.WriteHeader(http.StatusBadRequest)
			return
		}
		writer.WriteHeader(http.StatusAccepted)
		if w.deduplicates && w.isDuplicate(request.Header.Get("Ce-Source")+" "+request.Header.Get("Ce-Id")) {
			return
		}
		eventType := request.Header.Get("Ce-Type")
		random := w.chance.draw("Broker delivers %s %s", eventType, request.Header.Get("Ce-Id"))
		for range w.deliveries(eventType, random) {
			pause := between(random, time.Millisecond, time.Second)
			if w.faulty() && random.Float64() < 0.01 { //nolint:mnd // a few
				pause = between(random, time.Second, 5*time.Minute)
			}
			copied := request.Clone(p.ctx) //nolint:contextcheck // it outlives the request
			copied.Body = io.NopCloser(bytes.NewReader(body))
			go func() {
				time.Sleep(pause)
				if !p.dead() {
					broker.ServeHTTP(&recorder{header: http.Header{}}, copied)
				}
			}()
		}
	})
}

// isDuplicate reports whether the Broker had an event in the last two minutes, and remembers it. A killed Broker does not forget.
func (w *world) isDuplicate(id string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	last, known := w.accepted[id]
	if known && time.Since(last) < 2*time.Minute {
		return true
	}
	if w.accepted == nil {
		w.accepted = map[string]time.Time{}
	}
	w.accepted[id] = time.Now()
	return false
}

// deliveries returns how often a Broker delivers an accepted event.
func (w *world) deliveries(eventType string, random *rand.Rand) int {
	if w.planned != nil {
		return w.planned.deliveries(w, eventType)
	}
	if !w.faulty() {
		return 1
	}
	const seldom = 0.01
	switch draw := random.Float64(); {
	case draw < seldom:
		return 0
	case draw < 2*seldom:
		return 2
	default:
		return 1
	}
}

// keptnDrops reports whether Keptn loses an accepted event, as planned. It keeps lighthouse-service's, which nobody
// resends.
func (w *world) keptnDrops(eventType string) bool {
	return w.planned != nil && !strings.Contains(eventType, ".evaluation.") && w.planned.drops(w, eventType)
}

// awaitNamespace waits like an informer that keeps retrying, but without random pauses.
func (w *world) awaitNamespace(ctx context.Context, operation string) {
	for strings.HasSuffix(operation, " in "+loadNamespace) && w.namespaceDown.Load() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// unlogged is a Kubernetes call that reads an unreadable log.
func (w *world) unlogged(ctx context.Context, operation string) error {
	name, isLog := strings.CutPrefix(operation, "log ")
	if !isLog {
		return nil
	}
	pod, _, _ := strings.Cut(name, " ")
	hides, hangs := w.hidesLog(pod)
	if hides && hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if hides {
		return apierrors.NewInternalError(errors.New("Get https://10.0.0.1:10250/containerLogs: no route to host"))
	}
	return nil
}
