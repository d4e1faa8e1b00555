package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/keptn"
)

// Options are the settings of a System.
type Options struct {
	// Directory has all files. The caller removes it.
	Directory string
	// Manifests is the directory config/.
	Manifests string
	// Programs replace images' containers, and Fate decides what happens to pods; nil runs all.
	Programs map[string]Program
	Fate     func(job *batchv1.Job) Fate
	// Settings replace those of the manifests' ConfigMaps.
	Settings map[string]string
	// Objects are added to the cluster, such as Secrets for tasks.
	Objects []runtime.Object
	// Observe is called for each delivery of the Broker.
	Observe func(Delivery)
	// Retries is how often the Broker retries; nil follows the manifests.
	Retries *int32
	// Before wraps each function's handler, by host name; nil is none.
	Before func(name string, handler http.Handler) http.Handler
	// WithoutBridge leaves the bridge to StartBridge.
	WithoutBridge bool
	// Log receives the functions' logs.
	Log slog.Handler
	// Processors returns the functions' span processors; nil is System.Spans and those of the environment.
	Processors func() []sdktrace.SpanProcessor
}

// System is everything in one process: Keptn's control plane for tests with a real NATS JetStream, the Broker,
// the functions, and a cluster that runs containers as processes.
type System struct {
	Keptn   *keptn.Server
	Cluster *Kubernetes
	// Spans has the spans of all functions and of the Broker.
	Spans *tracetest.InMemoryExporter

	network    *Network
	cancel     context.CancelFunc
	group      sync.WaitGroup
	processors []sdktrace.SpanProcessor
	// startBridge starts a bridge, and endBridge stops it.
	startBridge func() error
	endBridge   context.CancelFunc
}

const (
	// Token is Keptn's API token.
	Token         = "keptn-token"
	dispatchDelay = 60 * time.Millisecond // as measured (recording 58-latency)
	local         = "127.0.0.1:0"
	maxEventBytes = 4 << 20
	keysDirectory = "keys"
	pingInterval  = time.Second
)

// executorPrefix is the prefix of the names of executors and their Triggers.
const executorPrefix = "executor-"

// Start starts everything. Close stops it.
func Start(ctx context.Context, options Options) (*System, error) {
	manifests, err := ReadManifests(options.Manifests)
	if err != nil {
		return nil, err
	}
	maps.Copy(manifests.Settings, options.Settings)
	system := &System{Spans: tracetest.NewInMemoryExporter()}
	if options.Processors != nil {
		system.processors = options.Processors()
	} else {
		exported, err := telemetry.ExportFromEnvironment(ctx)
		if err != nil {
			return nil, err
		}
		system.processors = append(exported, sdktrace.NewSimpleSpanProcessor(system.Spans))
	}
	ctx, system.cancel = context.WithCancel(ctx)
	signals := func(name string) *telemetry.Signals {
		return telemetry.To(name, options.Log, system.processors...)
	}
	if system.Keptn, err = keptn.Start(ctx, keptn.Options{
		Directory: options.Directory, Token: Token, DispatchDelay: dispatchDelay, Log: slog.New(options.Log),
		NATSAddress: local, GatewayAddress: local, ControlPlaneAddress: local, ResourceAddress: local, DatastoreAddress: local,
	}); err != nil {
		system.cancel()
		return nil, err
	}
	network := NewNetwork()
	system.network = network
	programs := map[string]Program{FetcherImage: Fetcher(signals("fetcher"), network)}
	for image, program := range options.Programs {
		programs[image] = program
	}
	system.Cluster, err = NewKubernetes(KubernetesOptions{
		Fate:    options.Fate,
		Context: ctx, Runtime: &Processes{Programs: programs}, Directory: filepath.Join(options.Directory, "pods"), NewID: uuid.NewString,
	}, append(Objects(manifests), options.Objects...)...)
	tokenFile := filepath.Join(options.Directory, "token")
	if err == nil {
		err = ReviewTokens(system.Cluster, tokenFile)
	}
	if err == nil {
		err = InstallKeys(ctx, system.Cluster, filepath.Join(options.Directory, keysDirectory))
	}
	if err == nil {
		err = system.wire(ctx, manifests, network, options, tokenFile, signals)
	}
	if err != nil {
		system.Close(ctx)
		return nil, err
	}
	return system, nil
}

func (s *System) wire(ctx context.Context, manifests Manifests, network *Network, options Options, tokenFile string, signals func(string) *telemetry.Signals) error {
	isRemote := options.Settings["KEPTN_TRANSPORT"] == "http"
	environment := func(name string) Environment {
		common := Environment{
			Manifests: manifests, Transport: network, Kubernetes: s.Cluster.Client(nil), Telemetry: signals(name), TokenFile: tokenFile,
			KeysDirectory:  filepath.Join(options.Directory, keysDirectory),
			KeptnTransport: http.DefaultTransport, Jitter: func(most time.Duration) time.Duration { return rand.N(most + 1) }, //nolint:gosec // no secret
			Variables: map[string]string{
				"KEPTN_TRANSPORT": "nats", "KEPTN_NATS_URL": s.Keptn.NATSURL, "KEPTN_CONTROL_PLANE_URL": s.Keptn.ControlPlaneURL, "KEPTN_RESOURCE_SERVICE_URL": s.Keptn.ResourceURL,
				"KEPTN_DATASTORE_URL": s.Keptn.DatastoreURL,
				"KEPTN_PING_INTERVAL": pingInterval.String(), "KEPTN_SUBSCRIPTIONS": "sh.keptn.event.*.triggered",
				"KEPTN_BRIDGE_URL": "https://keptn.example.com/bridge",
			},
		}
		if isRemote {
			delete(common.Variables, "KEPTN_SUBSCRIPTIONS") // over HTTP, only events of exact types can be listed
			maps.Copy(common.Variables, map[string]string{
				"KEPTN_API_URL": s.Keptn.GatewayURL, "KEPTN_API_TOKEN": Token, "KEPTN_POLL_INTERVAL": "100ms",
			})
		}
		maps.Copy(common.Variables, options.Settings)
		return common
	}
	if options.Retries != nil {
		for index := range manifests.Triggers {
			manifests.Triggers[index].Spec.Delivery.Retry = options.Retries
		}
	}
	broker, err := NewBroker(BrokerURL, manifests.Triggers, network)
	if err != nil {
		return err
	}
	broker.Observe = options.Observe
	network.Handle("broker-ingress.knative-eventing.svc.cluster.local", broker)

	serve := func(ctx context.Context, host string, environment Environment, wire func(Environment) (function.Program, error)) error {
		program, err := wire(environment)
		if err != nil {
			return err
		}
		handler := program.HTTPHandler(maxEventBytes, environment.Telemetry)
		if options.Before != nil {
			handler = options.Before(host, handler)
		}
		network.Handle(host+"."+systemNamespace+".svc.cluster.local", handler)
		if program.Routes != nil {
			network.Handle(host+"-files."+systemNamespace+".svc.cluster.local", program.RoutesHandler())
		}
		for _, loop := range program.Loops {
			s.group.Go(func() { _ = loop(ctx) })
		}
		return nil
	}
	s.startBridge = func() error {
		environment := environment("bridge")
		if !isRemote {
			var err error
			if environment.Stream, err = NATS(environment); err != nil {
				return err
			}
		}
		var alive context.Context
		alive, s.endBridge = context.WithCancel(ctx)
		return serve(alive, "bridge", environment, func(environment Environment) (function.Program, error) { return Bridge(alive, environment) })
	}
	if !options.WithoutBridge {
		if err := s.startBridge(); err != nil {
			return err
		}
	}
	for _, trigger := range manifests.Triggers {
		if strings.HasPrefix(trigger.Name, executorPrefix) {
			wire := func(environment Environment) (function.Program, error) { return Executor(environment, trigger.Name) }
			if err := serve(ctx, trigger.Name, environment("executor"), wire); err != nil {
				return err
			}
		}
	}
	return errors.Join(serve(ctx, "watcher", environment("watcher"), Watcher), serve(ctx, "jobsource", environment("jobsource"), Jobsource))
}

// StartBridge starts the bridge of a System without one.
func (s *System) StartBridge() error { return s.startBridge() }

// ReplaceBridge stops the bridge with its memory, and starts another one.
func (s *System) ReplaceBridge() error {
	s.endBridge()
	return s.startBridge()
}

// Trace returns the ended spans of a trace by start.
func (s *System) Trace(traceID string) []console.Span {
	var found []console.Span
	for _, stub := range s.Spans.GetSpans() {
		if stub.SpanContext.TraceID().String() != traceID {
			continue
		}
		span := console.Span{
			ID: stub.SpanContext.SpanID().String(), Name: stub.Name, Kind: strings.ToUpper(stub.SpanKind.String()),
			Start: stub.StartTime, Duration: stub.EndTime.Sub(stub.StartTime), Error: stub.Status.Description,
		}
		if stub.Parent.HasSpanID() {
			span.ParentID = stub.Parent.SpanID().String()
		}
		for _, attribute := range stub.Attributes {
			span.Attributes = append(span.Attributes, string(attribute.Key))
		}
		for _, attribute := range slices.Concat(stub.Resource.Attributes(), stub.Attributes) {
			switch attribute.Key {
			case "service.name":
				span.Service = attribute.Value.AsString()
			case "cicd.pipeline.task.run.result", "cicd.pipeline.result":
				span.Result = attribute.Value.AsString()
			}
		}
		found = append(found, span)
	}
	slices.SortStableFunc(found, func(one, other console.Span) int { return one.Start.Compare(other.Start) })
	return found
}

// Call calls Keptn's API like a user, at a path below /api.
func (s *System) Call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.Keptn.GatewayURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("create a request: %w", err)
	}
	request.Header.Set("x-token", Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call Keptn: %w", err)
	}
	defer discard(response)
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read Keptn's answer: %w", err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, fmt.Errorf("Keptn answered %s %s with %s: %s", method, path, response.Status, content)
	}
	return content, nil
}

// Close stops everything, and exports the remaining spans.
func (s *System) Close(ctx context.Context) {
	s.cancel()
	s.group.Wait()
	if s.Cluster != nil {
		s.Cluster.Wait()
	}
	s.Keptn.Close()
	for _, processor := range s.processors {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingInterval)
		_ = processor.Shutdown(ctx)
		cancel()
	}
}
