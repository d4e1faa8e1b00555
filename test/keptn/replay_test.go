package keptn_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/test/keptn"
)

// The recordings are of a real Keptn 1.4.5 control plane (testdata/recordings/INDEX.md tells what each shows).
type recording struct {
	Description string `json:"description"`
	Timeline    []step `json:"timeline"`
	// Truncated says, in words, that the timeline is the beginning only.
	Truncated string `json:"timelineTruncated"`
}

type step struct {
	T            float64         `json:"t"`
	Kind         string          `json:"kind"`
	Tap          string          `json:"tap"`
	Method       string          `json:"method"`
	URI          string          `json:"uri"`
	Status       int             `json:"status"`
	RequestBody  json.RawMessage `json:"requestBody"`
	ResponseBody json.RawMessage `json:"responseBody"`
	Subject      string          `json:"subject"`
	Data         json.RawMessage `json:"data"`
	Reply        string          `json:"reply"`
	Repeated     int             `json:"repeated"`

	RequestHeaders map[string]string   `json:"requestHeaders"`
	Headers        map[string][]string `json:"headers"`
}

const token = "keptn-token"

var seedShipyard = []byte(`apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata:
  name: shipyard-seed
spec:
  stages:
    - name: production
      sequences:
        - name: pipeline
          tasks:
            - name: test
`)

var chainShipyard = []byte(`apiVersion: spec.keptn.sh/0.2.3
kind: Shipyard
metadata:
  name: shipyard-chain
spec:
  stages:
    - name: production
      sequences:
        - name: pipeline
          tasks:
            - name: deployment
              properties:
                deploymentstrategy: direct
            - name: test
              properties:
                teststrategy: performance
            - name: evaluation
`)

// start starts a control plane, empty or with the recordings' projects.
func start(t *testing.T, options keptn.Options, empty bool) *keptn.Server {
	t.Helper()
	options.Directory, options.Token, options.Log = t.TempDir(), token, slog.New(slog.DiscardHandler)
	options.NATSAddress, options.GatewayAddress, options.ControlPlaneAddress = local, local, local
	options.ResourceAddress, options.DatastoreAddress = local, local
	server, err := keptn.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if empty {
		return server
	}
	for name, shipyard := range map[string][]byte{"seed": seedShipyard, "chain": chainShipyard} {
		if err := server.CreateProject(name, shipyard, "svc"); err != nil {
			t.Fatal(err)
		}
	}
	return server
}

const local = "127.0.0.1:0"

// scenario is a recording that test/keptn is held to.
type scenario struct {
	name string
	// options are Keptn's options, without the dispatch delay.
	options keptn.Options
	// empty is true for a Keptn without projects.
	empty bool
	// publishes is true if the recorded client published on the stream itself.
	publishes bool
	// early leaves answers at their recorded place, before the dispatch.
	early bool
	// before has functions to call before the step at a time.
	before map[float64]func(t *testing.T, server *keptn.Server)
	// adapt changes a recording that depends on others.
	adapt func(recorded recording) recording
}

// scenarios are all recordings except 57-poison-no-source, in which Keptn's process crashes repeatedly: there
// is no answer to compare, and the cause is never sent (TestEncodeEvent). 56-jetstream has its own test. In 53,
// the timeline lacks the oversize message: NATS is a real one in both.
var scenarios = append(plain(
	"02-pass", "03-errored", "04-failed", "05-warning", "10-chain", "11-chain-errored", "12-chain-warning",
	"20-double-started", "21-double-started-mixed", "22-finished-before-started", "23-finished-only",
	"24-duplicate-finished", "25-duplicate-finished-chain", "26-two-executors", "27-started-finished-started",
	"28a-finished-no-result", "28b-finished-no-status", "28c-finished-status-unknown", "28d-finished-status-weird",
	"28e-finished-result-weird", "29-bad-started", "40-abort-after-started", "41-abort-before-started", "42-abort-chain",
	"43-abort-unknown", "44-pause-resume", "45-pause-started-while-paused", "46-queued-sequence",
	"47-paging", "48-no-such-sequence", "52-oversize-http", "54-api-attributes", "58-latency", "60-race-started-finished",
	"61-race-poller", "62-more-than-a-page", "63-resources",
), []scenario{
	{name: "00-project-create", empty: true},
	{name: "01-registration", adapt: knownIntegration},
	{name: "30-started-too-early-dropped", early: true},
	{name: "31-started-dropped-no-timeout", early: true, options: keptn.Options{StartedWait: startedWait}, before: map[float64]func(*testing.T, *keptn.Server){
		// It would have timed out long since.
		28.131: func(*testing.T, *keptn.Server) { time.Sleep(2 * startedWait) },
	}},
	{name: "50-nats-participant", publishes: true},
	{name: "51-nats-odd", publishes: true},
	{name: "53-oversize-nats", publishes: true},
	{name: "55-shipyard-restart", options: keptn.Options{AckWait: time.Second}, adapt: withDispatch, before: map[float64]func(*testing.T, *keptn.Server){
		4.084: func(_ *testing.T, server *keptn.Server) { server.StopController() },
		6.711: func(t *testing.T, server *keptn.Server) {
			t.Helper()
			if err := server.StartController(); err != nil {
				t.Fatal(err)
			}
		},
	}},
	{name: "70-timeout", options: keptn.Options{StartedWait: startedWait}},
	{name: "71-validation-on", options: keptn.Options{ValidateEvents: true}},
}...)

// startedWait is long enough for an answer on a slow machine.
const startedWait = 2 * time.Second

func plain(names ...string) []scenario {
	var all []scenario
	for _, name := range names {
		all = append(all, scenario{name: name})
	}
	return all
}

// knownIntegration begins with Keptn's registration from an earlier recording, and leaves its log entries out.
func knownIntegration(recorded recording) recording {
	first := recorded.Timeline[0]
	first.Status = http.StatusCreated
	var integration map[string]any
	_ = json.Unmarshal(first.RequestBody, &integration)
	integration["subscriptions"] = []map[string]any{{"event": "sh.keptn.event.test.triggered", "filter": map[string]any{}}}
	first.RequestBody, _ = json.Marshal(integration)
	recorded.Timeline = append([]step{first}, recorded.Timeline...)
	for index := range recorded.Timeline {
		step := &recorded.Timeline[index]
		if step.Method == http.MethodGet && strings.Contains(step.URI, "/v1/log?") {
			var answer map[string]any
			_ = json.Unmarshal(step.ResponseBody, &answer)
			logs, _ := answer["logs"].([]any)
			answer["logs"], answer["totalCount"] = logs[:1], 1
			step.ResponseBody, _ = json.Marshal(answer)
		}
	}
	return recorded
}

// withDispatch adds the unrecorded dispatch of a task.
func withDispatch(recorded recording) recording {
	for index, listed := range recorded.Timeline {
		var answer struct{ Events []map[string]any }
		if listed.Method != http.MethodGet || json.Unmarshal(listed.ResponseBody, &answer) != nil || len(answer.Events) == 0 {
			continue
		}
		dispatched := answer.Events[0]
		dispatched["datacontenttype"] = "application/json"
		data, _ := json.Marshal(dispatched)
		recorded.Timeline = slices.Insert(recorded.Timeline, index+1, step{Kind: "nats", T: listed.T, Subject: "sh.keptn.event.test.triggered", Data: data})
		break
	}
	return recorded
}

func TestBehavesAsRecorded(t *testing.T) {
	for _, scenario := range scenarios {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(filepath.Join("testdata", "recordings", scenario.name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var recorded recording
			if err := json.Unmarshal(restored(content), &recorded); err != nil {
				t.Fatal(err)
			}
			scenario.options.DispatchDelay = time.Second // long enough for an answer on a slow machine
			if !scenario.early {
				scenario.options.DispatchDelay = 20 * time.Millisecond
				recorded.Timeline = afterDispatch(recorded.Timeline)
			}
			if recorded.Truncated != "" {
				recorded.Timeline = decided(recorded.Timeline)
			}
			if scenario.adapt != nil {
				recorded = scenario.adapt(recorded)
			}
			replay(t, start(t, scenario.options, scenario.empty), recorded, scenario)
		})
	}
}

// The stream is made as Keptn makes it.
// A comment's "recording 30" can be looked up.
func TestEveryRecordingIsInTheIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join("testdata", "recordings", "INDEX.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "recordings", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !strings.Contains(string(index), name) && !strings.HasPrefix(name, "28") {
			t.Errorf("%s is not in it", name)
		}
	}
}

func TestStreamIsAsRecorded(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "recordings", "56-jetstream.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Stream    struct{ Config jetstream.StreamConfig }
		Consumers struct {
			Consumers []struct{ Config jetstream.ConsumerConfig }
		}
	}
	if err := json.Unmarshal(content, &recorded); err != nil {
		t.Fatal(err)
	}
	connection, err := nats.Connect(start(t, keptn.Options{}, true).NATSURL)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Stream(t.Context(), "keptn")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.Consumer(t.Context(), "shipyard-controller:all-events")
	if err != nil {
		t.Fatal(err)
	}
	want, wantConsumer := recorded.Stream.Config, recorded.Consumers.Consumers[0].Config
	got, gotConsumer := stream.CachedInfo().Config, consumer.CachedInfo().Config
	// The metadata contains the version of NATS.
	want.Metadata, wantConsumer.Metadata, got.Metadata, gotConsumer.Metadata = nil, nil, nil, nil
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("stream (-recorded +got):\n%s", difference)
	}
	if difference := cmp.Diff(wantConsumer, gotConsumer); difference != "" {
		t.Errorf("consumer (-recorded +got):\n%s", difference)
	}
}

var elided = regexp.MustCompile(`\{\s*"\$elided": true,\s*"length": (\d+),\s*"sha256": "([0-9a-f]+)",\s*"head": "(x+)"\s*\}`)

// restored returns a recording with its long texts, which consist of one letter each. Their digests prove them.
func restored(content []byte) []byte {
	return elided.ReplaceAllFunc(content, func(match []byte) []byte {
		parts := elided.FindSubmatch(match)
		length, err := strconv.Atoi(string(parts[1]))
		text := strings.Repeat("x", length)
		if digest := sha256.Sum256([]byte(text)); err != nil || hex.EncodeToString(digest[:]) != string(parts[2]) {
			return match
		}
		return []byte(`"` + text + `"`)
	})
}

// replay sends the clients' requests, and compares every answer and every message of the stream, except for ids
// and times. Where the recording waited, it waits for the recorded answer.
func replay(t *testing.T, server *keptn.Server, recorded recording, s scenario) {
	t.Helper()
	connection, err := nats.Connect(server.NATSURL)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	var mutex sync.Mutex
	var published []string
	if _, err := connection.Subscribe("sh.keptn.>", func(message *nats.Msg) {
		mutex.Lock()
		defer mutex.Unlock()
		published = append(published, string(message.Data))
	}); err != nil {
		t.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		t.Fatal(err)
	}
	ids := translation{}
	var expected []string
	for index, step := range recorded.Timeline {
		if before := s.before[step.T]; before != nil {
			before(t, server)
		}
		if step.Kind == "nats" && s.publishes && !isKeptns(step) {
			expected = append(expected, string(step.Data))
			publish(t, connection, ids, step)
			continue
		}
		switch {
		case step.Kind == "nats":
			expected = append(expected, string(step.Data))
			eventually(t, fmt.Sprintf("t=%v: %s on the stream", step.T, step.Subject), func() string {
				mutex.Lock()
				defer mutex.Unlock()
				return cmp.Diff([]string(nil), missing(expected, published))
			})
			mutex.Lock()
			ids.learnFrom(step.Data, published)
			mutex.Unlock()
		case step.Tap != "gateway" || strings.HasPrefix(step.URI, "/api/mongodb-datastore"):
		case step.Method == http.MethodGet && isPassing(recorded.Timeline[index:]):
		case step.Method == http.MethodGet:
			eventually(t, fmt.Sprintf("t=%v: GET %s", step.T, step.URI), func() string {
				status, body := call(t, server, step, ids.translate(step.URI), nil)
				ids.learn(step.ResponseBody, body)
				return cmp.Diff([]any{step.Status, normalized(step.ResponseBody)}, []any{status, normalized(body)})
			})
		default:
			status, body := call(t, server, step, ids.translate(step.URI), []byte(ids.translate(sent(step.RequestBody))))
			ids.learn(step.ResponseBody, body)
			if difference := cmp.Diff([]any{step.Status, normalized(step.ResponseBody)}, []any{status, normalized(body)}); difference != "" {
				t.Fatalf("t=%v: %s %s (-recorded +got):\n%s", step.T, step.Method, step.URI, difference)
			}
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	if recorded.Truncated != "" {
		return // the next steps are unknown
	}
	if !slices.ContainsFunc(expected, isCreation) {
		// The earlier recordings left these messages out.
		published = slices.DeleteFunc(published, isCreation)
	}
	if difference := cmp.Diff(normalizedAll(expected), normalizedAll(published)); difference != "" {
		t.Errorf("the whole stream (-recorded +got):\n%s", difference)
	}
}

// isCreation reports whether a message is about the creation of a project or service.
func isCreation(message string) bool { return strings.Contains(message, ".create.") }

// decided omits the questions after which a recording was cut, and questions about a sequence that ended later: the
// recording may have polled for a later answer.
func decided(timeline []step) []step {
	last := len(timeline) - 1
	for last > 0 && (timeline[last].Kind == "nats" || timeline[last].Method == http.MethodGet) {
		last--
	}
	var kept []step
	for index, asked := range timeline {
		_, keptnContext, ofSequence := strings.Cut(asked.URI, "keptnContext=")
		ends := ofSequence && slices.ContainsFunc(timeline[index:], func(later step) bool {
			return strings.HasSuffix(later.Subject, ".pipeline.finished") && bytes.Contains(later.Data, []byte(keptnContext))
		})
		if asked.Method != http.MethodGet || index < last && !ends {
			kept = append(kept, asked)
		}
	}
	return kept
}

// sent is a request's body: JSON, or any text that was recorded as a string.
func sent(body json.RawMessage) string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		return text
	}
	return string(body)
}

// afterDispatch moves the publication of a triggered event before its answers. In some recordings an answer was
// in flight already and still counted, because shipyard-controller publishes after it has stored the event.
func afterDispatch(timeline []step) []step {
	for index := range timeline {
		var published struct {
			ID   string `json:"id"`
			Type string `json:"type"`
		}
		if timeline[index].Kind != "nats" || json.Unmarshal(timeline[index].Data, &published) != nil || !strings.HasSuffix(published.Type, ".triggered") {
			continue
		}
		first := slices.IndexFunc(timeline[:index], func(s step) bool {
			return s.Method == http.MethodPost && bytes.Contains(s.RequestBody, []byte(published.ID)) ||
				s.Kind == "nats" && !isKeptns(s) && bytes.Contains(s.Data, []byte(published.ID))
		})
		if first >= 0 {
			dispatch := timeline[index]
			timeline = slices.Insert(slices.Delete(timeline, index, index+1), first, dispatch)
		}
	}
	return timeline
}

// isPassing reports whether the answer to the first request may still change: the recording polled, and asked the
// same question again before it did anything else.
func isPassing(timeline []step) bool {
	resource, _, _ := strings.Cut(timeline[0].URI, "?")
	for _, later := range timeline[1:] {
		if later.Kind == "nats" || later.Tap != "gateway" {
			continue
		}
		if later.Method != http.MethodGet {
			return false
		}
		if again, _, _ := strings.Cut(later.URI, "?"); again == resource {
			return true
		}
	}
	return false
}

func eventually(t *testing.T, what string, difference func() string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		last := difference()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s (-recorded +got):\n%s", what, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// isKeptns reports whether Keptn published a message, or its API did for a client.
func isKeptns(s step) bool {
	var published struct{ Source string }
	return json.Unmarshal(s.Data, &published) == nil && (published.Source == "shipyard-controller" || published.Source == "fixture")
}

// publish publishes a message like the recorded client. If the recorded message was acknowledged, this one must be,
// too.
func publish(t *testing.T, connection *nats.Conn, ids translation, s step) {
	t.Helper()
	message := &nats.Msg{Subject: s.Subject, Header: nats.Header(s.Headers), Data: []byte(ids.translate(sent(s.Data)))}
	if s.Reply == "" {
		if err := connection.PublishMsg(message); err != nil {
			t.Fatal(err)
		}
		return
	}
	answer, err := connection.RequestMsg(message, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged struct{ Stream string }
	if err := json.Unmarshal(answer.Data, &acknowledged); err != nil || acknowledged.Stream != "keptn" {
		t.Errorf("t=%v: %s: acknowledged with %s", s.T, s.Subject, answer.Data)
	}
}

func call(t *testing.T, server *keptn.Server, recorded step, uri string, body []byte) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), recorded.Method, strings.TrimSuffix(server.GatewayURL, "/api")+uri, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-token", token)
	for name, value := range recorded.RequestHeaders {
		if strings.EqualFold(name, "x-token") {
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, content
}

// translation maps ids of the recording to those of this run.
type translation map[string]string

var identifier = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func (t translation) translate(text string) string {
	return identifier.ReplaceAllStringFunc(text, func(id string) string {
		if translated, ok := t[id]; ok {
			return translated
		}
		return id
	})
}

// learn maps the ids at the same places of a recorded and an actual body.
func (t translation) learn(recorded, actual []byte) {
	var one, other any
	if json.Unmarshal(recorded, &one) == nil && json.Unmarshal(actual, &other) == nil {
		t.walk(one, other)
	}
}

// learnFrom maps the ids of a recorded message to those of the actual one. If several messages are similar, the one
// in the same Keptn context counts.
func (t translation) learnFrom(recorded []byte, published []string) {
	contextOf := func(content string) string {
		var event struct{ Shkeptncontext string }
		_ = json.Unmarshal([]byte(content), &event)
		return event.Shkeptncontext
	}
	for _, message := range published {
		if t.translate(contextOf(string(recorded))) == contextOf(message) && cmp.Equal(normalized(recorded), normalized([]byte(message))) {
			t.learn(recorded, []byte(message))
			return
		}
	}
}

func (t translation) walk(one, other any) {
	switch one := one.(type) {
	case string:
		if value, ok := other.(string); ok && identifier.MatchString(one) && identifier.MatchString(value) && one != value {
			t[one] = value
		}
	case []any:
		if list, ok := other.([]any); ok {
			for index := range min(len(one), len(list)) {
				t.walk(one[index], list[index])
			}
		}
	case map[string]any:
		if object, ok := other.(map[string]any); ok {
			for name := range one {
				t.walk(one[name], object[name])
			}
		}
	}
}

// missing returns the recorded messages that are not among the actual ones.
func missing(recorded, actual []string) []string {
	left := normalizedAll(actual)
	var lacking []string
	for _, message := range normalizedAll(recorded) {
		index := slices.Index(left, message)
		if index < 0 {
			lacking = append(lacking, message)
			continue
		}
		left = slices.Delete(left, index, index+1)
	}
	return lacking
}

var (
	commit      = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	address     = regexp.MustCompile(`http://[^/"]+/`)
	timestamp   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	nanoseconds = regexp.MustCompile(`"\d{19}"`)
)

// normalized returns a body without ids, commits, times and addresses.
func normalized(body []byte) any {
	text := identifier.ReplaceAllString(string(body), "ID")
	text = commit.ReplaceAllString(text, "COMMIT")
	text = address.ReplaceAllString(text, "http://ADDRESS/")
	text = timestamp.ReplaceAllString(text, "TIME")
	text = nanoseconds.ReplaceAllString(text, `"TIME"`)
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil && text != "" {
		return text
	}
	return value
}

// normalizedMessages caches normalized messages: some are large and needed often.
var normalizedMessages sync.Map

// normalizedAll compares messages as a set: the API and the controller publish
// at the same time.
func normalizedAll(messages []string) []string {
	var all []string
	for _, message := range messages {
		known, ok := normalizedMessages.Load(message)
		if !ok {
			content, _ := json.Marshal(normalized([]byte(message)))
			known = string(content)
			normalizedMessages.Store(message, known)
		}
		all = append(all, known.(string))
	}
	slices.Sort(all)
	return all
}
