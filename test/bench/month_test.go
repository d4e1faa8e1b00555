//go:build !race

// The race detector needs several times the memory itself.

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/embedded"
)

const (
	// tasksVariable sets the number of tasks.
	tasksVariable = "TASKS"
	fewTasks      = 1000
	// tasksOfAProject is the number of tasks of each project: a month has a million tasks of 10,000 projects.
	tasksOfAProject = 100
	// taskInterval is the time between two triggered tasks, and runTime is how long each one runs.
	taskInterval = 30 * 24 * time.Hour / 1_000_000
	runTime      = time.Minute
	// remembered is how long Keptn knows an ended sequence. restTime is longer than the bridge remembers its tasks
	// (package memory).
	remembered = time.Hour
	restTime   = 65 * time.Minute
	// maxLeftBytes bounds the memory that a task leaves behind. No id or name fits into it. The tables of the bridge grow up
	// to maxTableBytes and never shrink.
	maxLeftBytes  = 32
	maxTableBytes = 512 << 10
)

// TestTasksLeaveNothingInTheBridge runs tasks on a virtual clock, and compares the bridge's memory before and after them. TASKS=1000000
// simulates a month.
func TestTasksLeaveNothingInTheBridge(t *testing.T) {
	tasks := fewTasks
	if value := os.Getenv(tasksVariable); value != "" {
		var err error
		if tasks, err = strconv.Atoi(value); err != nil {
			t.Fatalf("environment variable %s: %v", tasksVariable, err)
		}
	}
	keys := filepath.Join(t.TempDir(), "keys")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		month := startMonth(ctx, t, keys)
		month.projects = max(tasks/tasksOfAProject, 1)
		month.trigger(t, int(restTime/taskInterval))
		month.trigger(t, 1)
		before := heap()
		began := time.Now()
		busiest := month.trigger(t, tasks)
		month.trigger(t, 1) // the bridge forgets with the next task
		after := heap()
		left := int(after) - int(before)
		t.Logf("%d tasks of %d projects in %s: %d KiB before, %d KiB at most meanwhile, %d KiB after; %.1f bytes are left of each",
			tasks, month.projects, time.Since(began)-2*restTime, before>>10, busiest>>10, after>>10, float64(left)/float64(tasks))
		if left > maxTableBytes+tasks*maxLeftBytes {
			t.Errorf("%d bytes are left of %d tasks", left, tasks)
		}
		cancel()
		time.Sleep(restTime)
	})
}

// heap returns the bytes of reachable objects.
func heap() uint64 {
	var read runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one only empties pools
	runtime.ReadMemStats(&read)
	return read.HeapAlloc
}

// month is a bridge with its neighbours: a Keptn whose sequences have one task each, and a Broker with functions
// that let each task pass.
type month struct {
	ctx               context.Context
	bridge            function.Handler
	executor, watcher *signature.Party
	triggered         int
	projects          int

	mutex sync.Mutex
	// sequences are the sequences that Keptn knows, by context, and open is the number of running ones.
	sequences map[string]*sequenceOfOne
	open      int
}

type sequenceOfOne struct {
	id, project, source string
	triggered           string
	started, finished   bool
}

// startMonth starts the bridge.
func startMonth(ctx context.Context, t *testing.T, keys string) *month {
	t.Helper()
	manifests, err := embedded.ReadManifests("../../config")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := embedded.NewKubernetes(embedded.KubernetesOptions{Context: ctx}, embedded.Objects(manifests)...)
	if err == nil {
		err = embedded.InstallKeys(ctx, cluster, keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	signals := telemetry.To("bridge", slog.DiscardHandler)
	signals.IsTraced = true // spans need more of the bridge's memory
	err = signals.Measure("bridge", []telemetry.ReaderFunc{func() (sdkmetric.Reader, error) { return sdkmetric.NewManualReader(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	m := &month{ctx: ctx, sequences: map[string]*sequenceOfOne{}}
	network := embedded.NewNetwork()
	network.Handle("keptn", m.keptn())
	network.Handle("broker", http.HandlerFunc(m.broker))
	environment := embedded.Environment{
		Manifests: manifests, Transport: network, KeptnTransport: network, Kubernetes: cluster.Client(nil), Telemetry: signals, KeysDirectory: keys,
		Jitter: func(time.Duration) time.Duration { return 0 },
		Variables: map[string]string{
			"K_SINK": "http://broker", "KEPTN_TRANSPORT": "http", "KEPTN_API_URL": "http://keptn/api", "KEPTN_API_TOKEN": "token",
			"KEPTN_SUBSCRIPTIONS": monthType, "KEPTN_POLL_INTERVAL": "10s", // each second would take half the time of the test
		},
	}
	m.executor, m.watcher = partyOf(environment, signature.Executor), partyOf(environment, signature.Watcher)
	program, err := embedded.Bridge(ctx, environment)
	if err != nil {
		t.Fatal(err)
	}
	m.bridge = program.Handlers["/keptn"]
	for _, loop := range program.Loops {
		go func() { _ = loop(ctx) }()
	}
	return m
}

const monthType = "sh.keptn.event.deployment.triggered"

// trigger triggers tasks one after the other, and waits until all have ended and the bridge has forgotten them. It
// returns the peak of used memory.
func (m *month) trigger(t *testing.T, tasks int) (busiest uint64) {
	t.Helper()
	for index := range tasks {
		m.triggered++
		keptnContext := runID(m.triggered)
		sequence := &sequenceOfOne{id: fmt.Sprintf("11111111-1111-1111-1111-%012d", m.triggered), project: fmt.Sprintf("project-%d", m.triggered%m.projects)}
		sequence.triggered = fmt.Sprintf(`{"id":%q,"shkeptncontext":%q,"type":%q,"source":"shipyard-controller","specversion":"1.0","time":%q,`+
			`"contenttype":"application/json","data":{"project":%q,"stage":"production","service":"service"}}`,
			sequence.id, keptnContext, monthType, time.Now().UTC().Format(time.RFC3339Nano), sequence.project)
		m.mutex.Lock()
		m.sequences[keptnContext] = sequence
		m.open++
		m.mutex.Unlock()
		time.Sleep(taskInterval)
		if index%max(tasks/10, 1) == tasks/20 { //nolint:mnd // ten readings, spread over each tenth
			busiest = max(busiest, heap())
		}
	}
	time.Sleep(restTime)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.open > 0 || len(m.sequences) > 0 {
		t.Fatalf("%d of %d tasks have not ended", m.open, tasks)
	}
	return busiest
}

// broker accepts an event. If the event triggers a task, the functions answer it.
func (m *month) broker(writer http.ResponseWriter, request *http.Request) {
	received, err := cehttp.NewEventFromHTTPRequest(request)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	writer.WriteHeader(http.StatusAccepted)
	if received.Type() != monthType {
		return
	}
	task, _, err := keptn.ParseReceived(*received)
	if err != nil {
		panic(err)
	}
	go func() {
		m.answer(m.executor, protocol.Answer{Task: task, Phase: keptn.Started, At: time.Now()})
		time.Sleep(runTime)
		passed := keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass}
		m.answer(m.watcher, protocol.Finished(task, time.Now(), passed, keptn.RunSuccess))
	}()
}

// answer delivers an answer to the bridge, as often as a Broker does.
func (m *month) answer(from *signature.Party, answer protocol.Answer) {
	signed, err := from.Sign(answer.Event())
	if err != nil {
		panic(err)
	}
	const times, pause = 10, 10 * time.Second
	for range times {
		time.Sleep(time.Second)
		if _, err = m.bridge(m.ctx, signed); err == nil {
			return
		}
		time.Sleep(pause)
	}
}

// keptn answers the bridge's requests to Keptn.
func (m *month) keptn() http.Handler {
	routes := http.NewServeMux()
	const registered = `{"id":"integration","name":"job-executor","subscriptions":[{"id":"1","event":"` + monthType + `"}]}`
	constant := func(content string) http.HandlerFunc {
		return func(writer http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(writer, content) }
	}
	routes.HandleFunc("POST /api/controlPlane/v1/uniform/registration", constant(registered))
	routes.HandleFunc("PUT /api/controlPlane/v1/uniform/registration/{id}/ping", constant(registered))
	routes.HandleFunc("GET /api/mongodb-datastore/event", constant(`{"events":[],"nextPageKey":"0"}`))
	routes.HandleFunc("GET /api/controlPlane/v1/event/triggered/{type}", func(writer http.ResponseWriter, request *http.Request) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		var open []string
		wanted := request.URL.Query().Get("eventID")
		for _, sequence := range m.sequences {
			if !sequence.finished && (wanted == "" || wanted == sequence.id) && request.PathValue("type") == monthType {
				open = append(open, sequence.triggered)
			}
		}
		_, _ = fmt.Fprintf(writer, `{"events":[%s],"totalCount":%d}`, strings.Join(open, ","), len(open))
	})
	routes.HandleFunc("GET /api/controlPlane/v1/sequence-execution", m.execution)
	routes.HandleFunc("GET /api/controlPlane/v1/sequence/{project}", func(writer http.ResponseWriter, request *http.Request) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		sequence := m.sequences[request.URL.Query().Get("keptnContext")]
		if sequence == nil {
			_, _ = io.WriteString(writer, `{"states":[],"totalCount":0}`)
			return
		}
		_, _ = fmt.Fprintf(writer, `{"states":[{"name":"delivery","state":%q,"stages":[]}],"totalCount":1}`, sequence.state())
	})
	routes.HandleFunc("GET /api/controlPlane/v1/project/{project}", func(writer http.ResponseWriter, request *http.Request) {
		answer(writer, map[string]string{"projectName": request.PathValue("project")})
	})
	routes.HandleFunc("POST /api/v1/event", m.count)
	routes.HandleFunc("/", func(_ http.ResponseWriter, request *http.Request) {
		panic(request.Method + " " + request.URL.String() + " is not made up")
	})
	return routes
}

func (s *sequenceOfOne) state() string {
	if s.finished {
		return "finished"
	}
	return "started"
}

// execution answers with the execution of a sequence.
func (m *month) execution(writer http.ResponseWriter, request *http.Request) {
	type counted struct {
		EventType string `json:"eventType"`
		Source    string `json:"source"`
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	sequence := m.sequences[request.URL.Query().Get("keptnContext")]
	if sequence == nil {
		_, _ = io.WriteString(writer, `{"sequenceExecutions":[],"totalCount":0}`)
		return
	}
	status := map[string]any{"state": sequence.state()}
	if sequence.finished {
		status["previousTasks"] = []map[string]string{{"name": "deployment", "triggeredID": sequence.id, "result": "pass", "status": "succeeded"}}
	} else {
		events := []counted{}
		if sequence.started {
			events = append(events, counted{keptn.TypeOf("deployment", keptn.Started), sequence.source})
		}
		status["currentTask"] = map[string]any{"name": "deployment", "triggeredID": sequence.id, "events": events}
	}
	answer(writer, map[string]any{"totalCount": 1, "sequenceExecutions": []any{map[string]any{
		"_id": "1", "status": status, "scope": map[string]string{"project": sequence.project, "stage": "production", "triggeredId": sequence.id},
	}}})
}

// count counts an answer. Keptn forgets the sequence some time after its end.
func (m *month) count(writer http.ResponseWriter, request *http.Request) {
	var received struct {
		Type    string `json:"type"`
		Source  string `json:"source"`
		Context string `json:"shkeptncontext"`
	}
	if err := json.NewDecoder(request.Body).Decode(&received); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	sequence := m.sequences[received.Context]
	if sequence == nil {
		http.Error(writer, "no such sequence", http.StatusNotFound)
		return
	}
	switch _, phase, _ := keptn.ParseType(received.Type); phase {
	case keptn.Started:
		sequence.started, sequence.source = true, received.Source
	case keptn.Finished:
		if !sequence.finished {
			m.open--
			time.AfterFunc(remembered, func() {
				m.mutex.Lock()
				defer m.mutex.Unlock()
				delete(m.sequences, received.Context)
			})
		}
		sequence.finished = true
	case keptn.Triggered:
	}
	answer(writer, map[string]string{"keptnContext": received.Context})
}
