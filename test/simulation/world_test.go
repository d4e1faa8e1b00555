package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
      - {name: warm, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 600}
      - {name: load, image: image, cmd: [run], ttlSecondsAfterFinished: 60, maxPollDuration: 60, namespace: load-tests}
`

// jobsOf is how many Jobs each task has.
var jobsOf = map[string]int{"deployment": 2, "test": 3}

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

	// fates are those of Jobs' pods.
	fates map[string]embedded.Fate
	// opened and closed are when tasks were triggered, and when Keptn had counted their
	// finished event.
	opened, closed map[string]time.Time
	// undelivered are the triggered events that a Trigger gave up.
	undelivered map[string]bool
	// free is when Keptn is done with the requests that wait.
	free time.Time
	// processes are those that run, by their names.
	processes map[string]*process
	// planned is the one thing that goes wrong, nil where chance decides.
	planned *plannedFault

	harshness
	outages
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

const overHTTP, overNATS = bridge.HTTP, bridge.NATS

// newWorld makes a world of a seed.
func newWorld(ctx context.Context, t *testing.T, seed uint64, tasks int) *world {
	t.Helper()
	transport := overNATS
	if seed%2 == 0 {
		transport = overHTTP
	}
	return newWorldOf(ctx, t, seed, tasks, transport, harshnessOf(seed), nil)
}

// newWorldOf makes a world in which what is planned goes wrong, and nothing else; or what
// the seed decides if nothing is.
func newWorldOf(ctx context.Context, t *testing.T, seed uint64, tasks int, transport bridge.Transport, harshness harshness, planned *plannedFault) *world {
	t.Helper()
	world := &world{
		t: t, tasks: tasks, harshness: harshness, planned: planned, fates: map[string]embedded.Fate{}, processes: map[string]*process{},
		opened: map[string]time.Time{}, closed: map[string]time.Time{}, undelivered: map[string]bool{}, began: time.Now(), ctx: ctx, chance: newChance(seed), history: fnv.New64a(), transport: transport,
		counted: map[string][]keptn.Phase{}, starts: map[string]int{}, ends: map[string]string{}, aborted: map[string]bool{},
		early: map[string]bool{}, touched: map[string]bool{}, rivals: map[string]bool{}, contexts: map[string]string{},
		network: embedded.NewNetwork(), log: slog.New(slog.DiscardHandler),
	}
	world.calm.Store(planned != nil)
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
		Drop:    world.keptnDrops, Now: wrong(&world.keptnClock),
	}, func(subject string, content []byte) error {
		world.stream.publish(subject, content, "")
		return nil
	})
	world.stream.handle = world.keptn.Handle
	var err error
	if world.manifests, err = embedded.ReadManifests("../../config"); err == nil {
		world.manifests.Settings["JOB_NAMESPACES"] = strings.Join(world.namespaces(), ",")
		world.cluster, err = embedded.NewKubernetes(embedded.KubernetesOptions{
			Context: ctx, Runtime: script{world}, NewID: func() string { return world.chance.id("object") },
			Delay: func(step, name string) time.Duration {
				return delayOf(step, world.chance.draw("Kubernetes %s %s", step, name))
			},
			Started: world.jobStarted, Fate: world.fateOf, Now: wrong(&world.kubernetesClock),
			Reachable: func() bool { return !world.apiDown.Load() },
		}, objects(world.manifests)...)
	}
	if err == nil {
		err = embedded.ReviewTokens(world.cluster, world.tokenFile)
		world.react()
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

// delayOf is how long a step of Kubernetes takes.
func delayOf(step string, random *rand.Rand) time.Duration {
	switch step {
	case "event":
		return between(random, time.Microsecond, time.Millisecond)
	case "watch":
		return between(random, time.Microsecond, 300*time.Millisecond)
	case "return of the node":
		return between(random, time.Minute, 15*time.Minute)
	default:
		return between(random, time.Millisecond, 3*time.Second)
	}
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
	if phase == keptn.Finished {
		world.closed[triggeredID] = time.Now()
	}
	rivaled := world.rivals[triggeredID]
	world.mutex.Unlock()
	if !strings.HasPrefix(source, keptn.Source) || !world.isLegal(counted, rivaled) {
		world.violate("Keptn counted %v of %s for task %s", counted, source, triggeredID)
	}
}

// isLegal says whether Keptn may have counted these of a task so far: one started event
// and then one finished. A clock that jumps may double both, so that the task ends all
// the same.
func (world *world) isLegal(counted []keptn.Phase, rivaled bool) bool {
	const started, finished = keptn.Started, keptn.Finished
	if !world.skewed {
		return slices.Equal(counted, []keptn.Phase{started}) || slices.Equal(counted, []keptn.Phase{started, finished})
	}
	return counted[0] == started && (rivaled || times(counted, finished) <= times(counted, started))
}

func times(counted []keptn.Phase, phase keptn.Phase) (number int) {
	for _, other := range counted {
		if other == phase {
			number++
		}
	}
	return number
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
	if random := world.chance.draw("pod of %s", job.Name); world.deletesPod(random) {
		go world.deletePod(job, random)
	}
	if len(early) > 0 && !world.isTouched(job.Name) {
		world.violate("Job %s starts although %v did not succeed", job.Name, early)
	}
}

// observe is told of each delivery of the Broker: a run may be cancelled only if its
// sequence was aborted, or its task is completed.
func (world *world) observe(delivery embedded.Delivery) {
	if _, phase, _ := keptn.ParseType(delivery.Event.Type()); phase == keptn.Triggered && delivery.Err != nil {
		world.mutex.Lock()
		world.undelivered[delivery.Event.ID()] = true
		world.mutex.Unlock()
	}
	if delivery.Event.Type() != run.CancelledType {
		return
	}
	notice, err := run.NoticeOf(delivery.Event, run.CancelledType)
	runID := notice.RunID
	world.mutex.Lock()
	aborted := world.aborted[world.contexts[runOf(run.Name(runID, 0, 0))]]
	completed := !world.closed[runID].IsZero() || world.rivals[runID]
	world.mutex.Unlock()
	if err != nil || !aborted && !completed {
		world.violate("run %s is cancelled although its task is wanted: %v", runID, err)
	}
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
	script.world.mutex.Lock()
	fate := script.world.fates[container.Job]
	script.world.mutex.Unlock()
	switch draw := random.Float64(); {
	case fate == embedded.NodeLost:
		pause = time.Hour // nobody hears of it any more
	case script.world.planned != nil:
		pause = 5 * time.Second
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
		world.mutex.Lock()
		world.processes[name] = process
		world.mutex.Unlock()
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
		Variables: map[string]string{
			"KEPTN_TRANSPORT": string(world.transport), "KEPTN_API_URL": "http://keptn/api", "KEPTN_API_TOKEN": token, "KEPTN_NATS_URL": "nats://keptn",
			"KEPTN_CONTROL_PLANE_URL": "http://keptn/api/controlPlane/v1", "KEPTN_RESOURCE_SERVICE_URL": "http://keptn/api/resource-service/v1",
			"KEPTN_SUBSCRIPTIONS": strings.Join(world.types(), ","),
		},
	}
	if world.transport == bridge.NATS {
		environment.Stream = &connection{stream: world.stream, process: process}
	}
	return environment
}

// start starts everything.
func (world *world) start() {
	serve := func(process *process, wire func(embedded.Environment) (function.Program, error)) (http.Handler, []func(context.Context) error, error) {
		environment := world.environment(process)
		program, err := wire(environment)
		return program.HTTPHandler(process.name, maxEventBytes, environment.Telemetry), program.Loops, err
	}
	world.network.Handle("keptn", world.atGateway(world.keptn.Gateway()))
	if world.planned == nil {
		world.beginOutages()
	}
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
		return serve(process, func(environment embedded.Environment) (function.Program, error) {
			return embedded.Bridge(ctx, environment)
		})
	})
	go world.keep("jobsource", []string{"jobsource" + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		return serve(process, embedded.Jobsource)
	})
	go world.keep("watcher", []string{"watcher" + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
		return serve(process, embedded.Watcher)
	})
	if world.stuck {
		world.network.Handle("executor-custom"+local, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }))
	}
	for _, name := range []string{"executor-deployment", "executor-test", "executor-custom"} {
		if world.stuck && name == "executor-custom" {
			continue
		}
		go world.keep(name, []string{name + local}, func(_ context.Context, process *process) (http.Handler, []func(context.Context) error, error) {
			return serve(process, func(environment embedded.Environment) (function.Program, error) {
				return embedded.Executor(environment, name)
			})
		})
	}
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
		// Keptn, which was down, may not know the sequence yet.
		deadline := time.Now().Add(healLimit)
		for control("abort"); !world.isOver(answer.KeptnContext) && time.Now().Before(deadline); control("abort") {
			time.Sleep(10 * time.Second)
		}
	case draw < 0.12: //nolint:mnd // a few
		time.Sleep(between(random, 0, time.Minute))
		control("pause")
		time.Sleep(between(random, time.Second, time.Minute))
		control("resume")
	}
}
