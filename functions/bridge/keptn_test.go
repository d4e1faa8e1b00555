package bridge_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"
	"github.com/job-executor/job-executor/functions/election"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/bridge"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/console"
	control "github.com/job-executor/job-executor/test/keptn"
)

const (
	token = "keptn-token"
	// lossTimeout is short, because test/keptn counts at once.
	lossTimeout = 2 * time.Second
)

var discard = slog.New(slog.DiscardHandler)

var shipyard = []byte(`apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata: {name: seed}
spec:
  stages:
    - name: production
      sequences:
        - name: pipeline
          tasks: [{name: deployment}, {name: test}]
`)

// echo is a Broker, an executor and a watcher that answer at once, each answer twice, until the bridge accepts
// it.
type echo struct {
	deliver function.Handler
	party   *signature.Party
	now     func() time.Time

	mutex sync.Mutex
	seen  []string
}

func (e *echo) handle(ctx context.Context, triggered event.Event) (*event.Event, error) {
	e.mutex.Lock()
	e.seen = append(e.seen, triggered.Type())
	e.mutex.Unlock()
	task, _, err := keptn.ParseTask(triggered)
	if err != nil {
		return nil, err
	}
	started := protocol.Answer{Task: task, Phase: keptn.Started, At: e.now()}.Event()
	passed := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}
	finished := protocol.Finished(task, e.now(), passed, keptn.RunSuccess).Event()
	for _, answer := range []event.Event{started, started, finished, finished} {
		for {
			_, phase, _ := keptn.ParseType(answer.Type())
			signed, err := e.party.Sign(answer)
			if err != nil {
				return nil, err
			}
			if reply, err := e.deliver(ctx, signed); err == nil && (reply != nil || phase == keptn.Started) {
				break
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil, nil
}

// The bridge against a control plane that matches recordings, over both transports. The HTTP poller is fast
// enough to answer within the window in which Keptn drops events.
func TestSequencesEndOverBothTransports(t *testing.T) {
	for _, transport := range []bridge.Transport{bridge.NATS, bridge.HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			server := startKeptn(t, control.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			behind, stop := run(ctx, t, transport, server)
			defer stop()
			const sequences = 5
			for range sequences {
				keptnContext := trigger(ctx, t, server, "svc")
				wait(ctx, t, server, keptnContext)
				if difference := cmp.Diff(onceEach, counted(ctx, t, server, keptnContext)); difference != "" {
					t.Errorf("answers in the sequence (-want +got):\n%s", difference)
				}
			}
			behind.mutex.Lock()
			defer behind.mutex.Unlock()
			if len(behind.seen) != 2*sequences {
				t.Errorf("the Broker was given %d events, not %d", len(behind.seen), 2*sequences)
			}
		})
	}
}

// onceEach are the answers that a sequence needs, each once.
var onceEach = map[string]int{
	"sh.keptn.event.deployment.started": 1, "sh.keptn.event.deployment.finished": 1,
	"sh.keptn.event.test.started": 1, "sh.keptn.event.test.finished": 1,
}

func startKeptn(t *testing.T, options control.Options) *control.Server {
	t.Helper()
	const local = "127.0.0.1:0"
	options.Directory, options.Token, options.DispatchDelay, options.Log = t.TempDir(), token, 60*time.Millisecond, discard
	options.NATSAddress, options.GatewayAddress, options.ControlPlaneAddress, options.ResourceAddress = local, local, local, local
	server, err := control.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if err := server.CreateProject("seed", shipyard, "svc"); err != nil {
		t.Fatal(err)
	}
	return server
}

// Keptn's gateway answers late, with 429 or 500, or not at all, and Keptn drops accepted started events. Still
// each answer is counted once.
func TestSequencesEndWhateverTheGatewayDoes(t *testing.T) {
	const sequences, seed = 8, 4
	random := rand.New(rand.NewPCG(seed, seed))
	var mutex sync.Mutex
	counts := map[string]int{}
	happens := func(chance float64) bool {
		mutex.Lock()
		defer mutex.Unlock()
		return random.Float64() < chance
	}
	server := startKeptn(t, control.Options{
		Fault: func(request *http.Request) control.Fault {
			switch {
			case request.Header.Get(testHeader) != "":
				return control.Fault{}
			case happens(0.05):
				return control.Fault{Status: http.StatusTooManyRequests}
			case happens(0.05):
				return control.Fault{Status: http.StatusInternalServerError}
			case happens(0.05):
				return control.Fault{Delay: 100 * time.Millisecond}
			case request.Method == http.MethodGet && happens(0.05):
				return control.Fault{Close: true}
			default:
				return control.Fault{}
			}
		},
		Drop: func(eventType string) bool { return strings.HasSuffix(eventType, ".started") && happens(0.1) },
		Counted: func(triggeredID, eventType, _ string) {
			mutex.Lock()
			defer mutex.Unlock()
			counts[triggeredID+" "+eventType]++
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, stop := run(ctx, t, bridge.HTTP, server)
	defer stop()
	var contexts []string
	for index := range sequences {
		contexts = append(contexts, trigger(ctx, t, server, fmt.Sprintf("svc%d", index)))
	}
	for _, keptnContext := range contexts {
		wait(ctx, t, server, keptnContext)
	}
	mutex.Lock()
	defer mutex.Unlock()
	if len(counts) != sequences*len(onceEach) {
		t.Errorf("%d answers were counted, not %d", len(counts), sequences*len(onceEach))
	}
	for answer, times := range counts {
		if times != 1 {
			t.Errorf("%s was counted %d times", answer, times)
		}
	}
}

// testHeader marks requests of a test, which never fail.
const testHeader = "X-Test"

func run(ctx context.Context, t *testing.T, transport bridge.Transport, server *control.Server) (*echo, func()) {
	t.Helper()
	configuration := bridge.Configuration{
		Keptn: bridge.KeptnConfiguration{
			Transport:          transport,
			APIURL:             server.GatewayURL,
			APIToken:           token,
			ControlPlaneURL:    server.ControlPlaneURL,
			ResourceServiceURL: server.ResourceURL,
			DatastoreURL:       server.DatastoreURL,
			MaxEventBytes:      1000000,
		},
		NATS: nats.Configuration{URL: server.NATSURL},
		Timing: bridge.TimingConfiguration{
			PollInterval:   5 * time.Millisecond,
			ResyncInterval: time.Minute,
			LossTimeout:    lossTimeout,
			PingInterval:   50 * time.Millisecond,
		},
		Registration: bridge.RegistrationConfiguration{
			Name:          "job-executor",
			Subscriptions: []string{"sh.keptn.event.deployment.triggered", "sh.keptn.event.test.triggered"},
		},
		Pod: bridge.PodConfiguration{Pod: election.Pod{Namespace: "job-executor", Name: "bridge-0"}, NodeName: "node"},
	}
	// One key stands for those of all functions.
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := signature.Keys{Own: signature.Watcher, Private: private, Public: map[signature.Name]ed25519.PublicKey{signature.Watcher: public}}
	behind := &echo{now: time.Now, party: &signature.Party{Keys: keys, Now: time.Now}}
	broker := httptest.NewServer(function.Receiver(behind.handle, 1<<20, telemetry.To("broker", slog.DiscardHandler)))
	t.Cleanup(broker.Close)
	configuration.Broker.URL = broker.URL
	dependencies := bridge.Dependencies{
		Kubernetes: fake.NewClientset(), KeptnTransport: http.DefaultTransport, Transport: http.DefaultTransport,
		Telemetry: telemetry.To("bridge", slog.DiscardHandler), Now: time.Now, Jitter: func(limit time.Duration) time.Duration { return limit },
	}
	connections := bridge.Connections{Keys: keys}
	if transport == bridge.NATS {
		stream, err := bridge.ConnectNATS(configuration, dependencies)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stream.Close)
		connections.Stream = stream
	}
	program, err := bridge.New(configuration, dependencies, connections)
	if err != nil {
		t.Fatal(err)
	}
	behind.deliver = program.Handlers["/keptn"]
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	for _, loop := range program.Loops {
		group.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return behind, func() {
		cancel()
		group.Wait()
	}
}

func call(ctx context.Context, t *testing.T, method, address string, body, answer any) {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-token", token)
	request.Header.Set(testHeader, "yes")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	received, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s, %v", address, response.Status, received, err)
	}
	if err := json.Unmarshal(received, answer); err != nil {
		t.Fatal(err)
	}
}

func trigger(ctx context.Context, t *testing.T, server *control.Server, service string) string {
	t.Helper()
	var answer struct {
		KeptnContext string `json:"keptnContext"`
	}
	call(ctx, t, http.MethodPost, server.GatewayURL+"/v1/event", map[string]any{
		"type": "sh.keptn.event.production.pipeline.triggered", "source": "test", "specversion": "1.0",
		"data": map[string]string{"project": "seed", "stage": "production", "service": service},
	}, &answer)
	return answer.KeptnContext
}

func wait(ctx context.Context, t *testing.T, server *control.Server, keptnContext string) {
	t.Helper()
	for {
		var answer struct {
			States []struct {
				State string `json:"state"`
			} `json:"states"`
		}
		call(ctx, t, http.MethodGet, server.ControlPlaneURL+"/sequence/seed?keptnContext="+keptnContext, nil, &answer)
		if len(answer.States) == 1 && answer.States[0].State == "finished" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(errors.Join(fmt.Errorf("the sequence is %+v", answer), ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// counted counts our answers in an ended sequence.
func counted(ctx context.Context, t *testing.T, server *control.Server, keptnContext string) map[string]int {
	t.Helper()
	var counts map[string]int
	err := console.Eventually(ctx, time.Minute, func(ctx context.Context) error {
		var answer struct {
			Events []struct {
				Type, Source string
			} `json:"events"`
		}
		call(ctx, t, http.MethodGet, server.GatewayURL+"/mongodb-datastore/event?keptnContext="+keptnContext, nil, &answer)
		counts = map[string]int{}
		isOver := false
		for _, sent := range answer.Events {
			if strings.HasPrefix(sent.Source, keptn.Source) {
				counts[sent.Type]++
			}
			isOver = isOver || sent.Source == "shipyard-controller" && strings.HasSuffix(sent.Type, ".finished")
		}
		if !isOver { // the last answer may not be stored yet either
			return fmt.Errorf("the end of sequence %s is not stored", keptnContext)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return counts
}
