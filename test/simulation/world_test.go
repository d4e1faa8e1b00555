package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	noopmetric "go.opentelemetry.io/otel/metric/noop"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/embedded"
	control "github.com/job-executor/job-executor/test/keptn"
)

const (
	project  = "simulated"
	stage    = "production"
	services = 50
	token    = "keptn-token"

	maxEventBytes = 4 << 20
	// interval is the average time between two triggered sequences.
	interval = 2 * time.Second
	// faultsAfter is how long faults continue after the last trigger.
	faultsAfter = 3 * time.Minute
	// healLimit bounds the time from the last fault until everything has ended.
	healLimit = 90 * time.Minute
)

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
	keys      string
	network   *embedded.Network
	cluster   *embedded.Kubernetes
	keptn     *control.Server
	stream    *stream

	mutex      sync.Mutex
	history    hash.Hash64
	steps      int
	violations []string
	recent     recent
	counted    map[string][]keptn.Phase
	// starts and ends are the starts and ends of Jobs, by name.
	starts map[string]int
	ends   map[string]string
	// verdicts are the reported results of Jobs, by name, and happened counts occurrences of each kind.
	verdicts map[string]keptn.Result
	happened map[string]int
	// heard are the ids of our answers that reached the subscribers of core NATS.
	heard map[string]bool
	// missed are the answers that never reached mongodb-datastore, by task.
	missed map[string][]taskEvent
	// secretVersion is the number of values that the tasks' Secret has had.
	secretVersion int
	traffic       traffic
	// aborted are Keptn contexts.
	aborted map[string]bool
	// questions is the number of questions about single tasks, and requests that of all requests to Keptn.
	questions, requests int
	// touched are the runs with Jobs that another user deleted or resumed, rivals are the tasks that another
	// integration also answers, and contexts are those of tasks.
	touched, rivals map[string]bool
	// early are the runs with a Job that was deleted before Keptn had counted their started event.
	early    map[string]bool
	contexts map[string]string

	// fates are those of Jobs' pods.
	fates map[string]embedded.Fate
	// opened is when a task was triggered, and closed when Keptn counted its finished event.
	opened, closed map[string]time.Time
	// undelivered are the triggered events that a Trigger gave up.
	undelivered map[string]bool
	// accepted is when a Broker that drops duplicates accepted an event.
	accepted map[string]time.Time
	// free is when Keptn will have answered all waiting requests.
	free time.Time
	// processes are the running ones by name, and versions are those of the events of the next process of a name.
	processes map[string]*process
	versions  map[string]int
	// planned is the only fault; nil for random faults.
	planned *plannedFault

	spans spans
	// deaths counts the processes that died before the end.
	deaths int

	harshness
	outages
}

// faulty reports whether faults are allowed now.
func (w *world) faulty() bool { return !w.calm.Load() }

// note records a step in the history. Two runs of a seed must have the same history.
func (w *world) note(format string, arguments ...any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.steps++
	line := fmt.Sprintf("%d "+format+"\n", append([]any{time.Since(w.began)}, arguments...)...)
	_, _ = w.history.Write([]byte(line))
	w.recent.add(strings.TrimSpace(line))
	w.log.Debug(strings.TrimSpace(line))
}

func (w *world) violate(format string, arguments ...any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.violations = append(w.violations, fmt.Sprintf("after %s: ", time.Since(w.began))+fmt.Sprintf(format, arguments...))
}

// clockHandler gives log lines the virtual time since the beginning.
type clockHandler struct {
	slog.Handler
	began time.Time
}

func (c clockHandler) Handle(ctx context.Context, record slog.Record) error {
	record.AddAttrs(slog.Duration("at", record.Time.Sub(c.began)))
	return c.Handler.Handle(ctx, record)
}

func (c clockHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return clockHandler{c.Handler.WithAttrs(attributes), c.began}
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

// newWorldOf returns a world with only the planned fault, or with the faults of a seed if none is planned.
func newWorldOf(ctx context.Context, t *testing.T, seed uint64, tasks int, transport bridge.Transport, h harshness, planned *plannedFault) *world {
	t.Helper()
	w := &world{
		t:           t,
		tasks:       tasks,
		harshness:   h,
		planned:     planned,
		fates:       map[string]embedded.Fate{},
		processes:   map[string]*process{},
		versions:    map[string]int{},
		opened:      map[string]time.Time{},
		closed:      map[string]time.Time{},
		undelivered: map[string]bool{},
		began:       time.Now(),
		ctx:         ctx,
		chance:      newChance(seed),
		history:     fnv.New64a(),
		transport:   transport,
		counted:     map[string][]keptn.Phase{},
		starts:      map[string]int{},
		ends:        map[string]string{},
		verdicts:    map[string]keptn.Result{},
		happened:    map[string]int{},
		heard:       map[string]bool{},
		missed:      map[string][]taskEvent{},
		aborted:     map[string]bool{},
		early:       map[string]bool{},
		touched:     map[string]bool{},
		rivals:      map[string]bool{},
		contexts:    map[string]string{},
		traffic:     newTraffic(),
		network:     embedded.NewNetwork(),
	}
	w.calm.Store(planned != nil)
	w.log = slog.New(clockHandler{slog.NewTextHandler(leakWriter{w}, nil), w.began})
	if level := os.Getenv("LOG"); level != "" {
		var least slog.Level
		if err := least.UnmarshalText([]byte(level)); err != nil {
			t.Fatalf("environment variable LOG: %v", err)
		}
		printed := clockHandler{slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: least}), w.began}
		w.log = slog.New(slog.NewMultiHandler(w.log.Handler(), printed))
	}
	directory := t.TempDir()
	w.tokenFile, w.keys = filepath.Join(directory, "token"), filepath.Join(directory, "keys")
	w.stream = newStream(w)
	w.keptn = control.New(control.Options{
		Directory: directory, Token: token, DispatchDelay: between(w.chance.draw("dispatch"), time.Millisecond, time.Second), Log: w.log,
		NewID:   func() string { return w.chance.id("Keptn") },
		Counted: w.count,
		Drop:    w.keptnDrops, Unstored: w.unstored, Now: wrong(&w.keptnClock), ValidateEvents: w.validates,
	}, func(subject string, content []byte) error {
		w.stream.publish(subject, content, "")
		return nil
	})
	w.stream.handle, w.stream.hear = w.keptn.Handle, w.hear
	var err error
	if w.manifests, err = embedded.ReadManifests("../../config"); err == nil {
		w.manifests.Settings["JOB_NAMESPACES"] = strings.Join(w.namespaces(), ",")
		if h.capped {
			w.manifests.Settings["MAX_ACTIVE_RUNS_PER_PROJECT"] = strconv.Itoa(maxActiveRuns)
		}
		w.cluster, err = embedded.NewKubernetes(embedded.KubernetesOptions{
			Context: ctx, Runtime: script{w}, NewID: func() string { return w.chance.id("object") },
			Delay: func(step, name string) time.Duration {
				return delayOf(step, w.chance.draw("Kubernetes %s %s", step, name))
			},
			Started: w.jobStarted, Fate: w.fateOf, Now: wrong(&w.kubernetesClock),
			Reachable: func() bool { return !w.apiDown.Load() }, Endless: w.isEndless,
		}, objects(w.manifests)...)
	}
	if err == nil {
		w.makeSecret()
		err = errors.Join(embedded.ReviewTokens(w.cluster, w.tokenFile), embedded.InstallKeys(ctx, w.cluster, w.keys))
		w.react()
	}
	if err == nil {
		names := make([]string, services)
		for index := range names {
			names[index] = serviceName(index)
		}
		err = w.keptn.CreateProject(project, []byte(shipyard), names...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// delayOf returns the duration of a step of Kubernetes.
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

// objects returns the objects of an installation, with a fixed key for grants.
func objects(manifests embedded.Manifests) []runtime.Object {
	created := embedded.Objects(manifests)
	for _, object := range created {
		if secret, ok := object.(*corev1.Secret); ok && secret.Name == embedded.GrantSecret {
			secret.Data = map[string][]byte{"key": []byte("0123456789abcdef0123456789abcdef")}
		}
	}
	return created
}

func serviceName(index int) string { return fmt.Sprintf("service-%d", index%services) }

// keep runs a program, and restarts it whenever it dies.
func (w *world) keep(name string, hosts []string, start func(ctx context.Context, p *process) (http.Handler, []func(context.Context) error, error)) {
	for w.ctx.Err() == nil {
		process := w.newProcess(name)
		go func() {
			came := false
			defer func() {
				if !came {
					process.die()
				}
			}()
			handler, loops, err := start(process.ctx, process)
			if err != nil {
				w.note("%s does not start: %v", name, err)
				return
			}
			came = true
			for _, host := range hosts {
				w.network.Handle(host, process.serve(handler))
			}
			for _, loop := range loops {
				go func() {
					defer process.die()
					_ = loop(process.ctx)
				}()
			}
		}()
		<-process.ctx.Done()
		if w.ctx.Err() == nil {
			w.mutex.Lock()
			w.deaths++
			w.mutex.Unlock()
		}
		for _, host := range hosts {
			w.network.Handle(host, nil)
		}
		least, most := 10*time.Millisecond, 3*time.Second
		random := w.chance.draw("restart of %s", name)
		if random.Float64() < 0.1 { //nolint:mnd // sometimes it takes long
			most = 2 * time.Minute
		}
		select {
		case <-w.ctx.Done():
		case <-time.After(between(random, least, most)):
		}
	}
}

func (w *world) environment(p *process) embedded.Environment {
	environment := embedded.Environment{
		Manifests:      w.manifests,
		Version:        p.version,
		Transport:      p,
		Kubernetes:     w.cluster.Client(p.call),
		TokenFile:      w.tokenFile,
		KeysDirectory:  w.keys,
		KeptnTransport: p,
		Telemetry: &telemetry.Signals{
			Log:     w.log.With("function", p.name),
			Tracers: tracers(p), JobTracers: tracers(p), IsTraced: true,
			Meters: noopmetric.NewMeterProvider(),
		},
		Jitter: func(most time.Duration) time.Duration {
			return between(w.chance.draw("jitter of %s", p.name), 0, most)
		},
		Variables: map[string]string{
			"KEPTN_TRANSPORT": string(w.transport), "KEPTN_API_URL": "http://keptn/api", "KEPTN_API_TOKEN": token, "KEPTN_NATS_URL": "nats://keptn",
			"KEPTN_CONTROL_PLANE_URL": "http://keptn/api/controlPlane/v1", "KEPTN_RESOURCE_SERVICE_URL": "http://keptn/api/resource-service/v1",
			"KEPTN_DATASTORE_URL": "http://keptn/api/mongodb-datastore",
			"KEPTN_SUBSCRIPTIONS": strings.Join(w.types(), ","),
		},
	}
	if w.transport == bridge.NATS {
		environment.Stream = &connection{stream: w.stream, process: p}
	}
	return environment
}

// start starts everything.
func (w *world) start() {
	serve := func(p *process, wire func(embedded.Environment) (function.Program, error)) (http.Handler, []func(context.Context) error, error) {
		environment := w.environment(p)
		program, err := wire(environment)
		events, files := program.HTTPHandler(maxEventBytes, environment.Telemetry), program.RoutesHandler()
		return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			if strings.HasPrefix(request.Host, "bridge-files.") {
				files.ServeHTTP(writer, request)
				return
			}
			events.ServeHTTP(writer, request)
		}), program.Loops, err
	}
	w.network.Handle("keptn", w.atGateway(w.keptn.Gateway()))
	if w.planned == nil {
		w.beginOutages()
	}
	const local = ".job-executor.svc.cluster.local"
	go w.keep(
		"broker",
		[]string{"broker-ingress.knative-eventing.svc.cluster.local"},
		func(_ context.Context, p *process) (http.Handler, []func(context.Context) error, error) {
			broker, err := embedded.NewBroker(embedded.BrokerURL, w.manifests.Triggers, p)
			if err != nil {
				return nil, nil, err
			}
			broker.Observe, broker.Misreads, broker.Vague = w.observe, w.misreads, w.vague
			if w.asynchronous {
				return w.laterBroker(broker, p), nil, nil
			}
			return broker, nil, nil
		},
	)
	bridges := []string{"bridge" + local, "bridge-files" + local}
	go w.keep("bridge", bridges, func(ctx context.Context, p *process) (http.Handler, []func(context.Context) error, error) {
		return serve(p, func(environment embedded.Environment) (function.Program, error) {
			return embedded.Bridge(ctx, environment)
		})
	})
	go w.keep("jobsource", []string{"jobsource" + local}, func(_ context.Context, p *process) (http.Handler, []func(context.Context) error, error) {
		return serve(p, embedded.Jobsource)
	})
	go w.keep("watcher", []string{"watcher" + local}, func(_ context.Context, p *process) (http.Handler, []func(context.Context) error, error) {
		return serve(p, embedded.Watcher)
	})
	if w.stuck {
		w.network.Handle("executor-custom"+local, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }))
	}
	for _, name := range []string{"executor-deployment", "executor-test", "executor-get-sli", "executor-custom", "executor-observed"} {
		if w.stuck && name == "executor-custom" {
			continue
		}
		go w.keep(name, []string{name + local}, func(_ context.Context, p *process) (http.Handler, []func(context.Context) error, error) {
			return serve(p, func(environment embedded.Environment) (function.Program, error) {
				return embedded.Executor(environment, name)
			})
		})
	}
}
