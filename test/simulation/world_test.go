package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/embedded"
	control "github.com/job-executor/job-executor/test/keptn"
)

const (
	project  = "simulated"
	stage    = "production"
	services = 50
	token    = "keptn-token"

	maxEventBytes = 4 << 20
	// interval is the time between two triggered sequences, on average.
	interval = 2 * time.Second
	// faultsAfter is for how long there are faults after the last was triggered.
	faultsAfter = 3 * time.Minute
	// healLimit is the time until everything has ended once there are none.
	healLimit = 90 * time.Minute
)

// shipyard has sequences of two tasks that have actions, and one that has none.
const shipyard = `apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata: {name: simulated}
spec:
  stages:
    - name: production
      sequences:
        - name: pipeline
          tasks: [{name: deployment}, {name: test}]
        - name: unmatched
          tasks: [{name: approval}]
`

// jobConfig has a task with two Jobs of one action, and one with three of two.
const jobConfig = `apiVersion: v2
actions:
  - name: Deploy
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks:
      - {name: prepare, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
      - {name: deploy, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
  - name: Check
    events: [{name: sh.keptn.event.test.triggered}]
    tasks: [{name: check, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}]
  - name: Load
    events: [{name: sh.keptn.event.test.triggered}]
    tasks:
      - {name: warm, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
      - {name: load, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60}
`

// planned is how many Jobs each task has.
var planned = map[string]int{"deployment": 2, "test": 3}

var errDown = errors.New("it is down")

// world is one simulated installation.
type world struct {
	t         *testing.T
	log       *slog.Logger
	tasks     int
	transport bridge.Transport
	began     time.Time
	ctx       context.Context
	chance    *chance
	calm      atomic.Bool
	keptnDown atomic.Bool

	manifests embedded.Manifests
	tokenFile string
	network   *embedded.Network
	cluster   *embedded.Kubernetes
	keptn     *control.Server
	stream    *stream

	mutex      sync.Mutex
	history    hash.Hash64
	steps      int
	violations []string
	counted    map[string][]keptn.Phase
	// starts and ends are of Jobs, by their names.
	starts map[string]int
	ends   map[string]string
	// aborted are Keptn contexts.
	aborted map[string]bool
	// questions is how often Keptn was asked about a single task, requests how often it
	// was asked at all.
	questions, requests int
	// touched are the runs of which others deleted or resumed a Job, and rivals the tasks
	// that another integration answers, too. contexts are those of tasks.
	touched, rivals map[string]bool
	// early are the runs of which a Job was deleted before Keptn had counted their
	// started event.
	early    map[string]bool
	contexts map[string]string

	// busy says that Keptn counts late, asynchronous that the Broker answers before it
	// delivers, and stuck that one executor never answers.
	busy, asynchronous, stuck bool
	// foreign is what answers in Keptn's place: 0 is Keptn itself.
	foreign atomic.Int32
}

// faulty says whether faults are allowed now.
func (world *world) faulty() bool { return !world.calm.Load() }

// note writes what happened into the history, by which two runs are compared.
func (world *world) note(format string, arguments ...any) {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	world.steps++
	line := fmt.Sprintf("%d "+format+"\n", append([]any{time.Since(world.began)}, arguments...)...)
	_, _ = world.history.Write([]byte(line))
	world.log.Debug(strings.TrimSpace(line))
}

func (world *world) violate(format string, arguments ...any) {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	world.violations = append(world.violations, fmt.Sprintf("after %s: ", time.Since(world.began))+fmt.Sprintf(format, arguments...))
}

// clockHandler gives log lines the virtual time since the beginning.
type clockHandler struct {
	slog.Handler
	began time.Time
}

func (handler clockHandler) Handle(ctx context.Context, record slog.Record) error {
	record.AddAttrs(slog.Duration("at", record.Time.Sub(handler.began)))
	return handler.Handler.Handle(ctx, record)
}

func (handler clockHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return clockHandler{handler.Handler.WithAttrs(attributes), handler.began}
}

func newWorld(ctx context.Context, t *testing.T, seed uint64, tasks int) *world {
	t.Helper()
	world := &world{
		t: t, tasks: tasks, began: time.Now(), ctx: ctx, chance: newChance(seed), history: fnv.New64a(), transport: bridge.NATS,
		counted: map[string][]keptn.Phase{}, starts: map[string]int{}, ends: map[string]string{}, aborted: map[string]bool{},
		early: map[string]bool{}, touched: map[string]bool{}, rivals: map[string]bool{}, contexts: map[string]string{},
		network: embedded.NewNetwork(), log: slog.New(slog.DiscardHandler),
		busy:         seed%3 == 0, // a third of the seeds
		asynchronous: seed%4 < 2,  // a half, over either transport
		stuck:        seed%5 == 0,
	}
	if seed%2 == 0 {
		world.transport = bridge.HTTP
	}
	if os.Getenv("SIMULATION_LOG") != "" {
		world.log = slog.New(clockHandler{slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}), world.began})
	}
	directory := t.TempDir()
	world.tokenFile = filepath.Join(directory, "token")
	world.stream = newStream(world)
	world.keptn = control.New(control.Options{
		Directory: directory, Token: token, DispatchDelay: between(world.chance.draw("dispatch"), time.Millisecond, time.Second), Log: world.log,
		NewID:   func() string { return world.chance.id("Keptn") },
		Counted: world.count,
		Drop: func(eventType string) bool {
			// Over NATS what was acknowledged is handled.
			return world.transport == bridge.HTTP && world.faulty() && strings.HasSuffix(eventType, "."+string(keptn.Started)) &&
				world.chance.draw("Keptn drops").Float64() < doubleChance
		},
	}, func(subject string, content []byte) error {
		world.stream.publish(subject, content, "")
		return nil
	})
	world.stream.handle = world.keptn.Handle
	var err error
	if world.manifests, err = embedded.ReadManifests("../../config"); err == nil {
		world.cluster, err = embedded.NewKubernetes(embedded.KubernetesOptions{
			Context: ctx, Runtime: script{world}, NewID: func() string { return world.chance.id("object") },
			Delay: func(step, name string) time.Duration {
				return between(world.chance.draw("Kubernetes %s %s", step, name), time.Millisecond, 3*time.Second)
			},
			Started: world.jobStarted,
		}, objects(world.manifests)...)
	}
	if err == nil {
		err = embedded.ReviewTokens(world.cluster, world.tokenFile)
	}
	if err == nil {
		names := make([]string, services)
		for index := range names {
			names[index] = serviceName(index)
		}
		err = world.keptn.CreateProject(project, []byte(shipyard), names...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return world
}

// objects are those of an installation, with a key for grants that is no chance.
func objects(manifests embedded.Manifests) []runtime.Object {
	made := embedded.Objects(manifests)
	for _, object := range made {
		if secret, ok := object.(*corev1.Secret); ok {
			secret.Data = map[string][]byte{"key": []byte("0123456789abcdef0123456789abcdef")}
		}
	}
	return made
}

func serviceName(index int) string { return fmt.Sprintf("service-%d", index%services) }

// count is told what Keptn counts.
func (world *world) count(triggeredID, eventType, source string) {
	_, phase, _ := keptn.ParseType(eventType)
	world.note("Keptn counts %s of %s by %s", eventType, triggeredID, source)
	if source == rival {
		return
	}
	world.mutex.Lock()
	world.counted[triggeredID] = append(world.counted[triggeredID], phase)
	counted := slices.Clone(world.counted[triggeredID])
	world.mutex.Unlock()
	legal := [][]keptn.Phase{{keptn.Started}, {keptn.Started, keptn.Finished}}
	if !strings.HasPrefix(source, keptn.Source) || !slices.ContainsFunc(legal, func(phases []keptn.Phase) bool { return slices.Equal(phases, counted) }) {
		world.violate("Keptn counted %v of %s for task %s", counted, source, triggeredID)
	}
}

// jobStarted is told of each pod of a Job that starts.
func (world *world) jobStarted(job *batchv1.Job) {
	world.note("Job %s starts", job.Name)
	world.mutex.Lock()
	world.starts[job.Name]++
	starts := world.starts[job.Name]
	var early []string
	for name, began := range world.starts {
		if began > 0 && name < job.Name && runOf(name) == runOf(job.Name) && world.ends[name] != succeeded {
			early = append(early, name)
		}
	}
	world.mutex.Unlock()
	if starts > 1 {
		world.note("Job %s starts for the %dth time", job.Name, starts)
	}
	if len(early) > 0 && !world.isTouched(job.Name) {
		world.violate("Job %s starts although %v did not succeed", job.Name, early)
	}
}

// rival is the source of another integration.
const rival = "somebody-else"

// isTouched says whether others deleted or resumed a Job of a run.
func (world *world) isTouched(job string) bool {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	return world.touched[runOf(job)]
}

// published is told of each task that Keptn triggers; another integration answers some
// of them.
func (world *world) published(content []byte) {
	triggered, err := keptn.DecodeEvent(content)
	if err != nil {
		world.violate("Keptn published what is no event: %v", err)
		return
	}
	task, _, err := keptn.ParseTask(triggered)
	if err != nil {
		world.violate("Keptn published what is no task: %v", err)
		return
	}
	random := world.chance.draw("rival for %s", task.TriggeredID)
	answers := world.faulty() && planned[task.Name] > 0 && random.Float64() < 0.05
	world.mutex.Lock()
	world.contexts[runOf(run.Name(run.ID(task.TriggeredID), 0, 0))] = task.Context
	world.rivals[task.TriggeredID] = answers
	world.mutex.Unlock()
	if !answers {
		return
	}
	go func() {
		for _, answer := range []event.Event{task.Started(time.Now()), task.Finished(time.Now(), keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass})} {
			time.Sleep(between(random, 2*time.Second, 2*time.Minute))
			if world.ctx.Err() != nil {
				return
			}
			answer.SetSource(rival)
			answer.SetID(world.chance.id("rival"))
			world.ask(http.MethodPost, "/v1/event", answer, nil)
		}
	}()
}

// observe is told of each delivery of the Broker: a run may be cancelled only if its
// sequence was aborted.
func (world *world) observe(delivery embedded.Delivery) {
	if delivery.Event.Type() != run.CancelledType {
		return
	}
	runID, err := run.Of(delivery.Event)
	world.mutex.Lock()
	aborted := world.aborted[world.contexts[runOf(run.Name(runID, 0, 0))]]
	world.mutex.Unlock()
	if err != nil || !aborted {
		world.violate("run %s is cancelled although its sequence was not aborted: %v", runID, err)
	}
}

// others delete Jobs, and resume those that wait.
func (world *world) others() {
	client := world.cluster.Client(nil).BatchV1().Jobs("job-executor-jobs")
	for world.faulty() && world.ctx.Err() == nil {
		random := world.chance.draw("others")
		time.Sleep(between(random, time.Second, time.Minute))
		list, err := client.List(world.ctx, metav1.ListOptions{LabelSelector: run.Selector})
		if err != nil || len(list.Items) == 0 || !world.faulty() {
			continue
		}
		slices.SortFunc(list.Items, func(one, other batchv1.Job) int { return strings.Compare(one.Name, other.Name) })
		job := list.Items[random.IntN(len(list.Items))]
		if !run.IsActive(&job) || random.Float64() < 0.5 { //nolint:mnd // not too many
			continue
		}
		world.mutex.Lock()
		world.touched[runOf(job.Name)] = true
		world.early[runOf(job.Name)] = world.early[runOf(job.Name)] || len(world.counted[job.Labels[run.EventIDLabel]]) == 0
		world.mutex.Unlock()
		if run.PhaseOf(&job) == run.Waiting && random.Float64() < 0.5 { //nolint:mnd // half of them
			world.note("others resume Job %s", job.Name)
			_, _ = client.Patch(world.ctx, job.Name, types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{})
			continue
		}
		world.note("others delete Job %s", job.Name)
		_ = client.Delete(world.ctx, job.Name, metav1.DeleteOptions{})
	}
}

// answerForKeptn is what stands before Keptn, and answers in its place at times.
func answerForKeptn(writer http.ResponseWriter, what int32) {
	answers := []struct {
		status int
		body   string
	}{
		{http.StatusNotFound, "<html>404</html>"}, {http.StatusBadGateway, "<html>502</html>"}, {http.StatusServiceUnavailable, "<html>503</html>"},
		{http.StatusOK, "{}"}, {http.StatusOK, "null"}, {http.StatusOK, `{"sequenceExecutions":[{"status`}, {http.StatusOK, "<html>hello</html>"},
	}
	answer := answers[int(what)%len(answers)]
	writer.WriteHeader(answer.status)
	_, _ = writer.Write([]byte(answer.body))
}

// runOf is a Job's name without the numbers of its action and task.
func runOf(job string) string { return job[:len(job)-len("-000-000")] }

// How a Job's container ended.
const (
	succeeded = "succeeded"
	failed    = "failed"
	killed    = "killed"
)

// script is a Runtime whose containers do nothing but end, after a while and in
// some way.
type script struct{ world *world }

// Run waits.
func (script script) Run(ctx context.Context, container embedded.Container) (int, error) {
	random := script.world.chance.draw("container of %s", container.Job)
	code, end, pause := 0, succeeded, between(random, 100*time.Millisecond, 20*time.Second)
	switch draw := random.Float64(); {
	case draw < 0.05:
		code, end = 1, failed
	case draw < 0.07:
		pause = time.Hour // until its deadline
	}
	select {
	case <-ctx.Done():
		code, end = 137, killed
	case <-time.After(pause):
	}
	_, _ = fmt.Fprintf(container.Output, "%s %s\n", container.Job, end)
	script.world.note("Job %s has %s", container.Job, end)
	script.world.mutex.Lock()
	script.world.ends[container.Job] = end
	script.world.mutex.Unlock()
	return code, nil
}

// keep starts a program, and starts it again whenever it has died.
func (world *world) keep(name string, hosts []string, start func(ctx context.Context, process *process) (http.Handler, []func(context.Context) error, error)) {
	for world.ctx.Err() == nil {
		process := world.newProcess(name)
		go func() {
			came := false
			defer func() {
				if !came {
					process.die()
				}
			}()
			handler, loops, err := start(process.ctx, process)
			if err != nil {
				world.note("%s does not start: %v", name, err)
				return
			}
			came = true
			for _, host := range hosts {
				world.network.Handle(host, process.serve(handler))
			}
			for _, loop := range loops {
				go func() {
					defer process.die()
					_ = loop(process.ctx)
				}()
			}
		}()
		<-process.ctx.Done()
		for _, host := range hosts {
			world.network.Handle(host, nil)
		}
		least, most := 10*time.Millisecond, 3*time.Second
		random := world.chance.draw("restart of %s", name)
		if random.Float64() < 0.1 { //nolint:mnd // sometimes it takes long
			most = 2 * time.Minute
		}
		select {
		case <-world.ctx.Done():
		case <-time.After(between(random, least, most)):
		}
	}
}

func (world *world) environment(process *process) embedded.Environment {
	environment := embedded.Environment{
		Manifests: world.manifests, Transport: process, Kubernetes: world.cluster.Client(process.call), TokenFile: world.tokenFile, KeptnTransport: process,
		Telemetry: &function.Telemetry{Log: world.log.With("function", process.name), Tracers: noop.NewTracerProvider(), Meters: noopmetric.NewMeterProvider(), Propagator: propagation.TraceContext{}},
		Jitter: func(most time.Duration) time.Duration {
			return between(world.chance.draw("jitter of %s", process.name), 0, most)
		},
		Keptn: bridge.Configuration{
			Transport: world.transport, APIURL: "http://keptn/api", APIToken: token, NATSURL: "nats://keptn",
			ControlPlaneURL: "http://keptn/api/controlPlane/v1", ResourceServiceURL: "http://keptn/api/resource-service/v1",
			PollInterval: time.Second, ResyncInterval: time.Minute, PingInterval: 10 * time.Second,
			Subscriptions:   []string{"sh.keptn.event.deployment.triggered", "sh.keptn.event.test.triggered", "sh.keptn.event.approval.triggered"},
			IntegrationName: "job-executor", Namespace: "job-executor", PodName: "bridge", NodeName: "node",
		},
	}
	if world.transport == bridge.NATS {
		environment.Stream = &connection{stream: world.stream, process: process}
	}
	return environment
}

// start starts everything.
func (world *world) start() {
	serve := func(program function.Program, process *process) (http.Handler, []func(context.Context) error, error) {
		return program.Handler(process.name, maxEventBytes, world.environment(process).Telemetry), program.Loops, nil
	}
	gateway := world.keptn.Gateway()
	world.network.Handle("keptn", http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		world.mutex.Lock()
		world.requests++
		world.mutex.Unlock()
		if world.keptnDown.Load() {
			http.Error(writer, "Keptn is down", http.StatusServiceUnavailable)
			return
		}
		if foreign := world.foreign.Load(); foreign > 0 {
			answerForKeptn(writer, foreign)
			return
		}
		if strings.Contains(request.URL.Path, "sequence-execution") {
			world.mutex.Lock()
			world.questions++
			world.mutex.Unlock()
		}
		gateway.ServeHTTP(writer, request)
	}))
	go world.keptnGoesDown()
	go world.others()
	const local = ".job-executor.svc.cluster.local"
	go world.keep("broker", []string{"broker-ingress.knative-eventing.svc.cluster.local"}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		broker, err := embedded.NewBroker(world.manifests.Settings["BROKER_URL"], world.manifests.Triggers, process)
		if err != nil {
			return nil, nil, err
		}
		broker.Observe = world.observe
		if world.asynchronous {
			return world.laterBroker(broker, process), nil, nil
		}
		return broker, nil, nil
	})
	go world.keep("bridge", []string{"bridge" + local}, func(ctx context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		program, err := embedded.Bridge(ctx, world.environment(process))
		if err != nil {
			return nil, nil, err
		}
		return serve(program, process)
	})
	go world.keep("jobsource", []string{"jobsource" + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		return serve(embedded.Jobsource(world.environment(process)), process)
	})
	go world.keep("watcher", []string{"watcher" + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		return serve(embedded.Watcher(world.environment(process)), process)
	})
	if world.stuck {
		world.network.Handle("executor-custom"+local, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }))
	}
	for _, name := range []string{"executor-deployment", "executor-test", "executor-custom"} {
		if world.stuck && name == "executor-custom" {
			continue
		}
		go world.keep(name, []string{name + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
			return serve(embedded.Executor(world.environment(process)), process)
		})
	}
}

// laterBroker is a Broker as over Kafka or RabbitMQ: it answers before it delivers, and
// so may lose what it took; it delivers in any order, and some of it twice.
func (world *world) laterBroker(broker *embedded.Broker, process *process) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			writer.WriteHeader(http.StatusBadRequest)
			return
		}
		writer.WriteHeader(http.StatusAccepted)
		random := world.chance.draw("Broker delivers %s %s", request.Header.Get("Ce-Type"), request.Header.Get("Ce-Id"))
		times := 1
		if world.faulty() {
			switch draw := random.Float64(); {
			case draw < 0.01: //nolint:mnd // as much as is lost
				times = 0
			case draw < 0.02: //nolint:mnd // as much as is doubled
				times = 2
			}
		}
		for range times {
			pause := between(random, time.Millisecond, time.Second)
			copied := request.Clone(process.ctx) //nolint:contextcheck // it outlives the request
			copied.Body = io.NopCloser(bytes.NewReader(body))
			go func() {
				time.Sleep(pause)
				if !process.dead() {
					broker.ServeHTTP(&recorder{header: http.Header{}}, copied)
				}
			}()
		}
	})
}

// keptnGoesDown has Keptn be away for seconds, at times for minutes, or something else
// answer in its place.
func (world *world) keptnGoesDown() {
	for world.faulty() && world.ctx.Err() == nil {
		random := world.chance.draw("Keptn goes down")
		for _, down := range []bool{false, true, false} {
			most := 4 * time.Minute
			if down {
				most = 30 * time.Second
				switch draw := random.Float64(); {
				case draw < 0.1: //nolint:mnd // at times
					most = 10 * time.Minute
				case draw < 0.3: //nolint:mnd // at times
					most = 70 * time.Second
				}
			}
			down = down && world.faulty()
			if down && random.Float64() < 0.5 { //nolint:mnd // half of the time
				world.foreign.Store(1 + random.Int32N(7))
				world.note("something else answers for Keptn: %d", world.foreign.Load())
			} else {
				world.foreign.Store(0)
				world.keptnDown.Store(down)
			}
			for until := time.Now().Add(between(random, time.Second, most)); time.Now().Before(until) && (!down || world.faulty()); {
				select {
				case <-world.ctx.Done():
					return
				case <-time.After(time.Second):
				}
			}
		}
	}
	world.foreign.Store(0)
	world.keptnDown.Store(false)
}

// ask calls Keptn's API as its user, without faults.
func (world *world) ask(method, path string, body, answer any) {
	content, err := json.Marshal(body)
	if err == nil {
		var request *http.Request
		request, err = http.NewRequestWithContext(world.ctx, method, "http://keptn/api"+path, bytes.NewReader(content))
		if err == nil {
			request.Header.Set("x-token", token)
			recorder := &recorder{header: http.Header{}}
			world.keptn.Gateway().ServeHTTP(recorder, request)
			if answer != nil {
				err = json.Unmarshal(recorder.body.Bytes(), answer)
			}
		}
	}
	if err != nil {
		world.violate("%s %s: %v", method, path, err)
	}
}

// recorder is an http.ResponseWriter.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (recorder *recorder) Header() http.Header { return recorder.header }
func (recorder *recorder) WriteHeader(int)     {}

func (recorder *recorder) Write(content []byte) (int, error) { return recorder.body.Write(content) }

// load triggers sequences; some are aborted or paused for a while.
func (world *world) load() {
	world.ask(http.MethodPut, "/resource-service/v1/project/"+project+"/resource", map[string]any{
		"resources": []map[string]any{{"resourceURI": "job/config.yaml", "resourceContent": []byte(jobConfig)}},
	}, nil)
	var group sync.WaitGroup
	sequences := (world.tasks + 1) / 2
	for index := range sequences {
		group.Go(func() { world.sequence(index, time.Duration(sequences)*interval) })
	}
	group.Wait()
}

func (world *world) sequence(index int, within time.Duration) {
	random := world.chance.draw("sequence %d", index)
	time.Sleep(between(random, 0, within))
	name := "pipeline"
	if random.Float64() < 0.03 { //nolint:mnd // a few
		name = "unmatched"
	}
	var answer struct {
		KeptnContext string `json:"keptnContext"`
	}
	world.ask(http.MethodPost, "/v1/event", map[string]any{
		"type": "sh.keptn.event." + stage + "." + name + ".triggered", "source": "user", "specversion": "1.0",
		"data": map[string]string{"project": project, "stage": stage, "service": serviceName(index)},
	}, &answer)
	control := func(state string) {
		world.note("the user says %s to %s", state, answer.KeptnContext)
		world.ask(http.MethodPost, "/controlPlane/v1/sequence/"+project+"/"+answer.KeptnContext+"/control", map[string]string{"state": state}, nil)
	}
	switch draw := random.Float64(); {
	case name == "unmatched", draw < 0.06: //nolint:mnd // a few
		time.Sleep(between(random, 0, 2*time.Minute))
		world.mutex.Lock()
		world.aborted[answer.KeptnContext] = true
		world.mutex.Unlock()
		control("abort")
	case draw < 0.12: //nolint:mnd // a few
		time.Sleep(between(random, 0, time.Minute))
		control("pause")
		time.Sleep(between(random, time.Second, time.Minute))
		control("resume")
	}
}

// unended are the sequences and the Jobs that have not ended.
func (world *world) unended() []string {
	var answer struct {
		States []struct {
			Context string `json:"shkeptncontext"`
			State   string `json:"state"`
		} `json:"states"`
	}
	world.ask(http.MethodGet, "/controlPlane/v1/sequence/"+project, nil, &answer)
	var unended []string
	for _, sequence := range answer.States {
		if sequence.State != "finished" && sequence.State != "aborted" {
			unended = append(unended, "sequence "+sequence.Context+" is "+sequence.State)
		}
	}
	jobs, err := world.cluster.Client(nil).BatchV1().Jobs("").List(world.ctx, metav1.ListOptions{LabelSelector: run.Selector})
	if err != nil {
		return append(unended, err.Error())
	}
	for index := range jobs.Items {
		unended = append(unended, fmt.Sprintf("Job %s is %s", jobs.Items[index].Name, run.PhaseOf(&jobs.Items[index])))
	}
	slices.Sort(unended)
	return unended
}

// heal waits until everything has ended, now that there are no faults.
func (world *world) heal() {
	deadline := time.Now().Add(healLimit)
	for {
		unended := world.unended()
		if len(unended) == 0 {
			return
		}
		if time.Now().After(deadline) {
			world.violate("%d have not ended: %s", len(unended), strings.Join(unended[:min(len(unended), 5)], "; "))
			return
		}
		time.Sleep(10 * time.Second)
	}
}

// quiet looks whether anything goes on although everything has ended.
func (world *world) quiet() {
	const length = 10 * time.Minute
	underWay := 5 * time.Minute // what is repeated every two minutes, too
	if world.stuck {
		underWay = 20 * time.Minute // nine attempts of 85 s at an executor that never answers, and the pauses
	}
	time.Sleep(underWay)
	world.mutex.Lock()
	before := world.questions
	world.mutex.Unlock()
	time.Sleep(length)
	world.mutex.Lock()
	asked := world.questions - before
	world.mutex.Unlock()
	if asked > 0 {
		world.violate("Keptn was asked %d times about tasks although all have ended", asked)
	}
}

type taskEvent struct {
	ID, Type, Source, TriggeredID string
	Context                       string `json:"shkeptncontext"`
	Data                          struct {
		Status, Result, Message string
	}
}

// judge looks at how each task ended.
func (world *world) judge() (tasks int) {
	var answer struct{ Events []taskEvent }
	world.ask(http.MethodGet, "/mongodb-datastore/event", nil, &answer)
	finished := map[string]taskEvent{}
	for _, event := range answer.Events {
		if _, phase, ok := keptn.ParseType(event.Type); ok && phase == keptn.Finished && strings.HasPrefix(event.Source, keptn.Source) {
			finished[event.TriggeredID] = event
		}
	}
	for _, event := range answer.Events {
		name, phase, ok := keptn.ParseType(event.Type)
		if !ok || phase != keptn.Triggered {
			continue
		}
		tasks++
		world.mutex.Lock()
		counted, aborted := world.counted[event.ID], world.aborted[event.Context]
		world.mutex.Unlock()
		if planned[name] == 0 && len(counted) > 0 && !gaveUp(finished[event.ID]) {
			world.violate("Keptn counted %v for task %s that nothing matches", counted, event.ID)
		}
		if aborted || planned[name] == 0 {
			// A delivery that was under way when its task ended may have begun the run
			// once more; that run was cancelled, or it would still be there.
			continue
		}
		world.mutex.Lock()
		rivaled := world.rivals[event.ID]
		world.mutex.Unlock()
		if rivaled && len(counted) < 2 { //nolint:mnd // both of ours
			continue // the other one's completed it before Keptn had counted ours
		}
		if !slices.Equal(counted, []keptn.Phase{keptn.Started, keptn.Finished}) {
			world.violate("Keptn counted %v for task %s", counted, event.ID)
			continue
		}
		if !gaveUp(finished[event.ID]) {
			world.judgeRuns(event.ID)
			world.judgeResult(name, event.ID, finished[event.ID])
		}
	}
	return tasks
}

// judgeRuns looks how often each Job of a task has run.
func (world *world) judgeRuns(triggeredID string) {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	jobs := runOf(run.Name(run.ID(triggeredID), 0, 0))
	if world.early[jobs] {
		return // it may begin again: nobody had said that it had begun
	}
	for job, starts := range world.starts {
		if runOf(job) == jobs && starts > 1 {
			world.violations = append(world.violations, fmt.Sprintf("Job %s ran %d times", job, starts))
		}
	}
}

// gaveUp says whether a task ended since the Broker could not deliver its event.
func gaveUp(told taskEvent) bool {
	return told.Data.Result == string(keptn.ResultFail) && strings.HasPrefix(told.Data.Message, "Job Executor could not take this task")
}

// judgeResult compares what Keptn was told with how the Jobs ended.
func (world *world) judgeResult(name, triggeredID string, told taskEvent) {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	ended, jobs := map[string]int{}, runOf(run.Name(run.ID(triggeredID), 0, 0))
	for job, end := range world.ends {
		if runOf(job) == jobs {
			ended[end]++
		}
	}
	want := keptn.ResultFail
	if ended[succeeded] == planned[name] {
		want = keptn.ResultPass
	}
	if told.Data.Result == string(want) || world.touched[jobs] && told.Data.Result == string(keptn.ResultFail) {
		return
	}
	world.violations = append(world.violations, fmt.Sprintf("task %s (%s) ended as %s, but its Jobs as %v of %d: %s",
		triggeredID, name, told.Data.Result, ended, planned[name], told.Data.Message))
}
