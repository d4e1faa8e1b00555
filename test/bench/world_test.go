package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/embedded"
	"github.com/job-executor/job-executor/test/fixture"
)

// load is a concurrent load on a function.
type load struct {
	OpenEvents int
	// FinishedJobs are spread over this many namespaces.
	FinishedJobs, Namespaces int
	// ReportedRuns end at once. They have so many tasks, attempts of a task, and bytes of logs.
	ReportedRuns, TasksOfARun, Attempts, LogBytes int
	// LargeEvents arrive at once, each of 4 MiB. A task has a whole event as a variable, in YAML.
	LargeEvents int
}

// programVariable selects the function of a child process, and serverVariable is the address of all its
// neighbours.
const (
	programVariable = "BENCH_PROGRAM"
	serverVariable  = "BENCH_SERVER"
	// keysVariable names the directory with the functions' keys.
	keysVariable = "BENCH_KEYS"
	// loadVariable holds the load, in JSON.
	loadVariable = "BENCH_LOAD"
)

// TestMain is the function under test in the processes that the tests start.
func TestMain(m *testing.M) {
	program := os.Getenv(programVariable)
	if program == "" {
		os.Exit(m.Run())
	}
	if err := serve(program, os.Getenv(serverVariable)); err != nil {
		fmt.Fprintln(os.Stderr, program+":", err)
		os.Exit(1)
	}
}

// serve runs a function that reports to standard output.
func serve(program, server string) error {
	manifests, err := embedded.ReadManifests("../../config")
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server, QPS: 1000, Burst: 1000})
	if err != nil {
		return err
	}
	var l load
	if err := json.Unmarshal([]byte(os.Getenv(loadVariable)), &l); err != nil {
		return err
	}
	var namespaces []string
	for index := range l.Namespaces {
		namespaces = append(namespaces, namespaceOf(index, l))
	}
	ctx := context.Background()
	environment := embedded.Environment{
		Manifests: manifests, Transport: http.DefaultTransport, Kubernetes: client, KeptnTransport: http.DefaultTransport,
		Telemetry: &telemetry.Signals{
			Log:     slog.New(slog.NewTextHandler(os.Stdout, nil)),
			Tracers: noop.NewTracerProvider(), JobTracers: noop.NewTracerProvider(), Meters: noopmetric.NewMeterProvider(),
		},
		Jitter:        func(time.Duration) time.Duration { return 0 },
		KeysDirectory: os.Getenv(keysVariable),
		Variables: map[string]string{
			"K_SINK":              server + "/broker",
			"KEPTN_TRANSPORT":     "http",
			"KEPTN_API_URL":       server + "/api",
			"KEPTN_API_TOKEN":     "token",
			"KEPTN_SUBSCRIPTIONS": "sh.keptn.event.deployment.triggered",
			"JOB_NAMESPACES":      strings.Join(namespaces, ","),
		},
	}
	var wired function.Program
	switch program {
	case "bridge":
		wired, err = embedded.Bridge(ctx, environment)
	case "jobsource":
		wired, err = embedded.Jobsource(environment)
	case "watcher":
		return report(ctx, environment, l)
	case "executor":
		return execute(ctx, environment, l, server)
	}
	if err != nil {
		return err
	}
	failures := make(chan error, len(wired.Loops))
	for _, loop := range wired.Loops {
		go func() { failures <- loop(ctx) }()
	}
	return <-failures
}

// report has the watcher answer the completions of many runs at once.
func report(ctx context.Context, environment embedded.Environment, l load) error {
	environment.Variables["LOG_TIMEOUT"] = time.Minute.String()
	wired, err := embedded.Watcher(environment)
	if err != nil {
		return err
	}
	jobsource := partyOf(environment, signature.Jobsource)
	return atOnce(ctx, l.ReportedRuns, func(index int) error {
		completed, err := jobsource.Sign(protocol.Completed(newJob(index, 0, l), protocol.JobFinished, time.Now()))
		if err != nil {
			return err
		}
		var reply *event.Event
		for range 100 { // the Broker sends a run again that waited too long for memory
			if reply, err = wired.Handlers["/"](ctx, completed); !errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
		if err == nil && (reply == nil || len(reply.Data()) < min(l.TasksOfARun*l.Attempts*min(l.LogBytes, logLimit), runLimit)) {
			err = fmt.Errorf("run %d was answered with too little", index)
		}
		return err
	})
}

// partyOf signs events like a function.
func partyOf(environment embedded.Environment, name signature.Name) *signature.Party {
	return &signature.Party{Now: time.Now, Keys: &signature.Files{Settings: embedded.Keys(environment.KeysDirectory, name), Own: name, Now: time.Now}}
}

// atOnce calls something concurrently, reports the end, and waits to be killed.
func atOnce(ctx context.Context, number int, do func(index int) error) error {
	var group sync.WaitGroup
	failures := make([]error, number)
	for index := range failures {
		group.Go(func() { failures[index] = do(index) })
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	fmt.Println("done")
	<-ctx.Done()
	return nil
}

// maxEventBytes is MAX_EVENT_BYTES by default.
const maxEventBytes = 4 << 20

// execute sends many large events to the executor at once.
func execute(ctx context.Context, environment embedded.Environment, l load, server string) error {
	environment.TokenFile = filepath.Join(environment.KeysDirectory, "token")
	if err := os.WriteFile(environment.TokenFile, []byte("token"), 0o600); err != nil {
		return err
	}
	environment.Variables["BRIDGE_URL"] = server
	wired, err := embedded.Executor(environment, "executor-deployment")
	if err != nil {
		return err
	}
	receiver := httptest.NewServer(wired.HTTPHandler(maxEventBytes, environment.Telemetry))
	triggered := fixture.Triggered(task)
	const aNumber = "123456,"
	numbers := strings.Repeat(aNumber, (maxEventBytes-1<<10)/len(aNumber))
	content := fmt.Sprintf(`{"project":"project","stage":"production","service":"service","numbers":[%s0]}`, numbers)
	if err := triggered.SetData("application/json", json.RawMessage(content)); err != nil {
		return err
	}
	signed, err := partyOf(environment, signature.Bridge).Sign(triggered)
	if err != nil {
		return err
	}
	// All requests share one body, because this process also sends them.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, receiver.URL, nil)
	if err == nil {
		err = cehttp.WriteRequest(ctx, binding.ToMessage(&signed), request)
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return err
	}
	return atOnce(ctx, l.LargeEvents, func(int) error { return post(ctx, receiver.URL, request.Header, body) })
}

// post sends an event, and again while the executor lacks memory. It expects a finished event with a mistake.
func post(ctx context.Context, address string, headers http.Header, body []byte) error {
	for range 100 {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header = headers
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		reply, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		switch {
		case err != nil:
			return err
		case response.StatusCode == http.StatusOK && bytes.Contains(reply, []byte("could not add env with name ALL")):
			return nil
		case response.StatusCode != http.StatusServiceUnavailable:
			return fmt.Errorf("the executor answered %d: %.500s", response.StatusCode, reply)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the executor had no room")
}

// logLimit is the least that Keptn gets of each log, and runLimit of all logs of a run.
const (
	logLimit = 64 << 10
	runLimit = 256 << 10
)

// namespaceOf is the namespace of one of the Jobs.
func namespaceOf(index int, l load) string {
	return "job-executor-jobs-" + strconv.Itoa(index%l.Namespaces)
}

var task = keptn.Task{
	Name: "deployment", TriggeredID: "00000000-0000-0000-0000-000000000000", Context: "11111111-1111-1111-1111-111111111111",
	Project: "project", Stage: "production", Service: "service",
}

func runID(index int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", index) }

// newJob returns the finished Job of a task, as large as a real one.
func newJob(index, taskIndex int, l load) *batchv1.Job {
	of := task
	of.TriggeredID = runID(index)
	answers, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	ended := metav1.NewTime(time.Now().Add(-time.Minute))
	var environment []corev1.EnvVar
	for index := range 20 {
		environment = append(environment, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", index), Value: strings.Repeat("v", 50)})
	}
	labels := map[string]string{
		run.ManagedByLabel: run.ManagedBy, run.InstanceLabel: "job-executor", run.EventIDLabel: of.TriggeredID,
		run.ActionIndexLabel: "0", run.TaskIndexLabel: strconv.Itoa(taskIndex), run.ContextLabel: of.Context,
	}
	name := run.Name(of.TriggeredID, 0, taskIndex)
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceOf(index, l), Name: name, UID: types.UID(name), ResourceVersion: "1", CreationTimestamp: ended, Labels: labels,
			Annotations: map[string]string{
				run.TaskAnnotation: string(answers), run.TTLAnnotation: "21600", run.ReportedAnnotation: ended.Format(time.RFC3339),
			},
			// Kubernetes' managed fields are as large as the Job.
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "job-executor", Operation: metav1.ManagedFieldsOperationUpdate, FieldsType: "FieldsV1",
				FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":"` + strings.Repeat("f", 3000) + `"}`)},
			}},
		},
		Spec: batchv1.JobSpec{
			TTLSecondsAfterFinished: new(int32(21600)),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: run.TaskContainer, Image: "busybox", Args: []string{strings.Repeat("a", 500)}, Env: environment}},
			}},
		},
		Status: batchv1.JobStatus{
			StartTime: &ended, Succeeded: 1,
			Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: ended}},
		},
	}
}

// world is everything outside of the functions.
type world struct {
	*http.ServeMux

	load load
	// given are the events that the Broker received, and asked how many times all open ones were listed.
	given sync.Map
	count atomic.Int64
	asked atomic.Int64
}

func newWorld(keys string, l load) *world {
	w := &world{ServeMux: http.NewServeMux(), load: l}
	read := func(name string) []byte {
		content, _ := os.ReadFile(filepath.Join(keys, name+signature.Suffix)) // a missing one is empty
		return content
	}
	w.HandleFunc("POST /broker", func(writer http.ResponseWriter, request *http.Request) {
		if _, known := w.given.LoadOrStore(request.Header.Get("Ce-Id"), true); !known {
			w.count.Add(1)
		}
		_, _ = io.Copy(io.Discard, request.Body)
		writer.WriteHeader(http.StatusAccepted)
	})
	w.HandleFunc("POST "+files.GrantPath, func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte("grant")) })
	w.HandleFunc("GET "+files.ResourcePath, func(writer http.ResponseWriter, _ *http.Request) {
		const config = "apiVersion: v2\nactions: [{event: deployment, image: i, env: [{name: ALL, valueFrom: event, as: yaml, value: $.data}]}]\n"
		_, _ = writer.Write([]byte(config))
	})
	w.HandleFunc("GET /apis/batch/v1/namespaces/{namespace}/jobs", w.jobs)
	w.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", func(writer http.ResponseWriter, request *http.Request) {
		_, job, _ := strings.Cut(request.URL.Query().Get("labelSelector"), "=")
		answer(writer, corev1.PodList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: newPods(request.PathValue("namespace"), job, l.Attempts),
		})
	})
	w.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{pod}/log", func(writer http.ResponseWriter, _ *http.Request) {
		line := []byte(strings.Repeat("x", 99) + "\n")
		for range l.LogBytes / len(line) {
			if _, err := writer.Write(line); err != nil {
				return
			}
		}
	})
	w.HandleFunc("GET /api/v1/namespaces/{namespace}/serviceaccounts/{name}", func(writer http.ResponseWriter, _ *http.Request) {
		answer(writer, corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}})
	})
	w.HandleFunc("POST /api/v1/namespaces/{namespace}/pods", func(writer http.ResponseWriter, _ *http.Request) {
		writer.WriteHeader(http.StatusCreated)
		answer(writer, corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}})
	})
	w.HandleFunc("GET /api/v1/namespaces/{namespace}/events", func(writer http.ResponseWriter, _ *http.Request) {
		answer(writer, corev1.EventList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}})
	})
	w.HandleFunc("GET /api/v1/namespaces/job-executor/secrets/{name}", func(writer http.ResponseWriter, request *http.Request) {
		answer(writer, corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, Data: map[string][]byte{
			"key": bytes.Repeat([]byte("k"), 32), signature.PrivateField: read(request.PathValue("name")),
		}})
	})
	w.HandleFunc("GET /api/v1/namespaces/job-executor/configmaps/"+signature.PublicKeys, func(writer http.ResponseWriter, _ *http.Request) {
		public := map[string]string{}
		for _, name := range signature.Names() {
			public[string(name)+signature.Suffix] = string(read(string(name)))
		}
		answer(writer, corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: public})
	})
	w.HandleFunc("POST /api/controlPlane/v1/uniform/registration", func(writer http.ResponseWriter, _ *http.Request) {
		writer.WriteHeader(http.StatusCreated)
		_, _ = writer.Write([]byte(`{"id":"integration"}`))
	})
	w.HandleFunc("PUT /api/controlPlane/v1/uniform/registration/{id}/ping", func(writer http.ResponseWriter, _ *http.Request) {
		_, _ = writer.Write([]byte(`{"id":"integration","name":"job-executor","subscriptions":[{"id":"1","event":"sh.keptn.event.deployment.triggered"}]}`))
	})
	w.HandleFunc("GET /api/controlPlane/v1/event/triggered/{type}", w.open)
	w.HandleFunc("GET /api/controlPlane/v1/sequence-execution", func(writer http.ResponseWriter, request *http.Request) {
		_, _ = fmt.Fprintf(writer, `{"sequenceExecutions":[{"_id":"1","status":{"state":"started","stateBeforePause":"","previousTasks":[],
			"currentTask":{"name":"deployment","triggeredID":%q,"events":[]}},"scope":{"project":"project","keptnContext":%q}}],"totalCount":1}`,
			request.URL.Query().Get("keptnContext"), request.URL.Query().Get("keptnContext"))
	})
	w.HandleFunc("GET /api/controlPlane/v1/sequence/project", func(writer http.ResponseWriter, request *http.Request) {
		_, _ = fmt.Fprintf(
			writer,
			`{"states":[{"name":"delivery","project":"project","shkeptncontext":%q,"state":"started","stages":[]}],"totalCount":1}`,
			request.URL.Query().Get("keptnContext"),
		)
	})
	w.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		http.Error(writer, request.Method+" "+request.URL.String()+" is not made up", http.StatusNotImplemented)
	})
	return w
}

func answer(writer http.ResponseWriter, body any) {
	writer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(writer).Encode(body)
}

func newPods(namespace, job string, attempts int) (pods []corev1.Pod) {
	for attempt := range attempts {
		phase, terminated := corev1.PodFailed, &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1}
		if attempt == attempts-1 {
			phase, terminated = corev1.PodSucceeded, &corev1.ContainerStateTerminated{Reason: "Completed"}
		}
		created := metav1.NewTime(time.Now().Add(time.Duration(attempt-attempts) * time.Minute))
		pods = append(pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", job, attempt), CreationTimestamp: created},
			Status: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{
				Name: run.TaskContainer, State: corev1.ContainerState{Terminated: terminated},
			}}},
		})
	}
	return pods
}

// jobs lists Jobs like the API server: all, or a page.
func (w *world) jobs(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	if query.Get("watch") != "" {
		writer.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(writer).Flush()
		<-request.Context().Done()
		return
	}
	type place struct{ run, task int }
	var there []place
	_, id, one := strings.Cut(query.Get("labelSelector"), run.EventIDLabel+"=")
	for index := range w.load.FinishedJobs {
		switch {
		case namespaceOf(index, w.load) != request.PathValue("namespace"):
		case !one:
			there = append(there, place{run: index})
		case runID(index) == id:
			for taskIndex := range w.load.TasksOfARun {
				there = append(there, place{run: index, task: taskIndex})
			}
		}
	}
	metadata := metav1.ListMeta{ResourceVersion: "1"}
	// The first page of a list at resourceVersion 0 is complete, since it comes from the cache.
	if limit, _ := strconv.Atoi(query.Get("limit")); limit > 0 && query.Get("resourceVersion") != "0" {
		first, _ := strconv.Atoi(query.Get("continue"))
		last := min(first+limit, len(there))
		if last < len(there) {
			metadata.Continue = strconv.Itoa(last)
		}
		there = there[first:last]
	}
	writer.Header().Set("Content-Type", "application/json")
	buffered := bufio.NewWriter(writer)
	defer func() { _ = buffered.Flush() }()
	encoder := json.NewEncoder(buffered)
	_, _ = buffered.WriteString(`{"kind":"JobList","apiVersion":"batch/v1","metadata":`)
	_ = encoder.Encode(metadata)
	_, _ = buffered.WriteString(`,"items":[`)
	for position, at := range there {
		if position > 0 {
			_, _ = buffered.WriteString(",")
		}
		_ = encoder.Encode(newJob(at.run, at.task, w.load))
	}
	_, _ = buffered.WriteString("]}")
}

// open lists many open events of six kilobytes each.
func (w *world) open(writer http.ResponseWriter, request *http.Request) {
	w.asked.Add(1)
	buffered := bufio.NewWriter(writer)
	defer func() { _ = buffered.Flush() }()
	_, _ = buffered.WriteString(`{"events":[`)
	for index := range w.load.OpenEvents {
		if index > 0 {
			_, _ = buffered.WriteString(",")
		}
		_, _ = fmt.Fprintf(
			buffered,
			`{"id":%q,"shkeptncontext":%q,"type":%q,"source":"shipyard-controller","specversion":"1.0","time":"2026-11-24T12:00:00Z","contenttype":"application/json",
			"data":{"project":"project","stage":"production","service":"service","labels":{"padding":%q}}}`,
			runID(index),
			runID(index),
			request.PathValue("type"),
			strings.Repeat("p", 5800),
		)
	}
	_, _ = fmt.Fprintf(buffered, `],"pageSize":%d,"totalCount":%d}`, w.load.OpenEvents, w.load.OpenEvents)
}

// output is the beginning of a process' output.
type output struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (o *output) Write(content []byte) (int, error) {
	const most = 1 << 20
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.text.Len() < most {
		o.text.Write(content)
	}
	return len(content), nil
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// gaveAll reports whether the Broker has received all open events. They were listed several times.
func gaveAll(w *world, _ string) bool {
	return w.count.Load() == int64(w.load.OpenEvents) && w.asked.Load() > 3
}

// said reports whether a function has printed something.
func said(text string) func(*world, string) bool {
	return func(_ *world, output string) bool { return strings.Contains(output, text) }
}

// installKeys returns a directory with the keys of all functions.
func installKeys(tb testing.TB) string {
	tb.Helper()
	manifests, err := embedded.ReadManifests("../../config")
	if err != nil {
		tb.Fatal(err)
	}
	installed, err := embedded.NewKubernetes(embedded.KubernetesOptions{Context: tb.Context()}, embedded.Objects(manifests)...)
	keys := filepath.Join(tb.TempDir(), "keys")
	if err == nil {
		err = embedded.InstallKeys(tb.Context(), installed, keys)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// underLoad runs a function in its own process until it has completed a load, and returns how the process
// ended. Meanwhile it calls look repeatedly.
func underLoad(
	tb testing.TB,
	keys, program, goLimit string,
	l load,
	done func(w *world, output string) bool,
	look func(process *os.Process),
) *os.ProcessState {
	tb.Helper()
	world := newWorld(keys, l)
	server := httptest.NewServer(world)
	defer server.CloseClientConnections()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Minute)
	defer cancel()
	encoded, err := json.Marshal(l)
	if err != nil {
		tb.Fatal(err)
	}
	started := exec.CommandContext(ctx, os.Args[0])
	started.Env = append(os.Environ(), programVariable+"="+program, serverVariable+"="+server.URL, keysVariable+"="+keys,
		loadVariable+"="+string(encoded), "GOMEMLIMIT="+goLimit, "GOMAXPROCS=1")
	printed := &output{}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s: %s", program, printed)
		}
	})
	started.Stdout, started.Stderr = printed, printed
	if err := started.Start(); err != nil {
		tb.Fatal(err)
	}
	end := func() {
		cancel()
		_ = started.Wait() // it was killed
	}
	defer end() // also if the load fails early; the second call has no effect
	for !done(world, printed.String()) {
		time.Sleep(10 * time.Millisecond)
		if ctx.Err() != nil {
			tb.Fatalf("it does not end; the Broker has %d events, which were listed %d times:\n%s", world.count.Load(), world.asked.Load(), printed)
		}
		look(started.Process)
	}
	end()
	return started.ProcessState
}
