package keptn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/test/keptn"
)

// The recordings are of a real Keptn 1.4.5 control plane (see their INDEX.md).
type recording struct {
	Description string `json:"description"`
	Timeline    []step `json:"timeline"`
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

func start(t *testing.T, dispatchDelay time.Duration) *keptn.Server {
	t.Helper()
	server, err := keptn.Start(keptn.Options{
		Directory: t.TempDir(), Token: token, DispatchDelay: dispatchDelay, Log: slog.New(slog.DiscardHandler),
		NATSAddress: "127.0.0.1:0", GatewayAddress: "127.0.0.1:0", ControlPlaneAddress: "127.0.0.1:0", ResourceAddress: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	for name, shipyard := range map[string][]byte{"seed": seedShipyard, "chain": chainShipyard} {
		if err := server.CreateProject(name, shipyard, "svc"); err != nil {
			t.Fatal(err)
		}
	}
	return server
}

// replayed are the recordings that test/keptn is held to. The others concern
// what it does not do yet: timeouts (31, 70), event validation (71), oversize
// (52, 53), crashes of Keptn's own parts (55, 57), clients that publish on the
// stream themselves (50, 51); or they are measurements whose timelines were cut
// (58, 60, 61, 62). Left to issue 4: 00, 01 and 56, which need clients with wrong
// tokens and a view of the stream.
var replayed = []string{
	"02-pass", "03-errored", "04-failed", "05-warning", "10-chain", "11-chain-errored", "12-chain-warning",
	"20-double-started", "21-double-started-mixed", "22-finished-before-started", "23-finished-only",
	"24-duplicate-finished", "25-duplicate-finished-chain", "26-two-executors", "27-started-finished-started",
	"28a-finished-no-result", "28b-finished-no-status", "28c-finished-status-unknown", "28d-finished-status-weird",
	"28e-finished-result-weird", "29-bad-started", "40-abort-after-started", "41-abort-before-started", "42-abort-chain",
	"30-started-too-early-dropped", "47-paging", "48-no-such-sequence", "54-api-attributes", "63-resources",
	"43-abort-unknown", "44-pause-resume", "45-pause-started-while-paused", "46-queued-sequence",
}

// tooEarly is the recording of an answer within the window between the listing
// and the dispatch of an event.
const tooEarly = "30-started-too-early-dropped"

func TestBehavesAsRecorded(t *testing.T) {
	for _, name := range replayed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(filepath.Join("testdata", "recordings", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var recorded recording
			if err := json.Unmarshal(content, &recorded); err != nil {
				t.Fatal(err)
			}
			dispatchDelay := time.Second // enough for an answer, however slow the machine is
			if name != tooEarly {
				dispatchDelay = 20 * time.Millisecond
				recorded.Timeline = afterDispatch(recorded.Timeline)
			}
			replay(t, start(t, dispatchDelay), recorded)
		})
	}
}

// replay sends what clients sent, and compares every answer and every message of
// the stream, ids and times aside. Where the recording waited, it waits for the
// recorded answer.
func replay(t *testing.T, server *keptn.Server, recorded recording) {
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
		switch {
		case step.Kind == "nats":
			expected = append(expected, string(step.Data))
			eventually(t, fmt.Sprintf("t=%v: %s on the stream", step.T, step.Subject), func() string {
				mutex.Lock()
				defer mutex.Unlock()
				return cmp.Diff([]string(nil), missing(expected, published))
			})
		case step.Tap != "gateway" || strings.HasPrefix(step.URI, "/api/mongodb-datastore"):
		case step.Method == http.MethodGet && isPassing(recorded.Timeline[index:]):
		case step.Method == http.MethodGet:
			eventually(t, fmt.Sprintf("t=%v: GET %s", step.T, step.URI), func() string {
				status, body := call(t, server, step.Method, ids.translate(step.URI), nil)
				ids.learn(step.ResponseBody, body)
				return cmp.Diff([]any{step.Status, normalized(step.ResponseBody)}, []any{status, normalized(body)})
			})
		default:
			status, body := call(t, server, step.Method, ids.translate(step.URI), []byte(ids.translate(sent(step.RequestBody))))
			ids.learn(step.ResponseBody, body)
			if difference := cmp.Diff([]any{step.Status, normalized(step.ResponseBody)}, []any{status, normalized(body)}); difference != "" {
				t.Fatalf("t=%v: %s %s (-recorded +got):\n%s", step.T, step.Method, step.URI, difference)
			}
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	if difference := cmp.Diff(normalizedAll(expected), normalizedAll(published)); difference != "" {
		t.Errorf("the whole stream (-recorded +got):\n%s", difference)
	}
}

// sent is a request's body: JSON, or any text that was recorded as a string.
func sent(body json.RawMessage) string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		return text
	}
	return string(body)
}

// afterDispatch moves the publication of a triggered event before what was sent
// in answer to it: in some recordings the answer was on its way already, and
// still counted, since shipyard-controller publishes after it has taken note.
func afterDispatch(timeline []step) []step {
	for index := range timeline {
		var published struct {
			ID   string `json:"id"`
			Type string `json:"type"`
		}
		if timeline[index].Kind != "nats" || json.Unmarshal(timeline[index].Data, &published) != nil || !strings.HasSuffix(published.Type, ".triggered") {
			continue
		}
		first := slices.IndexFunc(timeline[:index], func(step step) bool {
			return step.Method == http.MethodPost && bytes.Contains(step.RequestBody, []byte(published.ID))
		})
		if first >= 0 {
			dispatch := timeline[index]
			timeline = slices.Insert(slices.Delete(timeline, index, index+1), first, dispatch)
		}
	}
	return timeline
}

// isPassing says that the answer to the first request is one on the way: the
// recording polled, and asked the same again before it did anything else.
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

func call(t *testing.T, server *keptn.Server, method, uri string, body []byte) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(server.GatewayURL, "/api")+uri, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-token", token)
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

func (ids translation) translate(text string) string {
	return identifier.ReplaceAllStringFunc(text, func(id string) string {
		if translated, ok := ids[id]; ok {
			return translated
		}
		return id
	})
}

// learn takes the ids that stand in the same places of a recorded and an actual
// body.
func (ids translation) learn(recorded, actual []byte) {
	var one, other any
	if json.Unmarshal(recorded, &one) == nil && json.Unmarshal(actual, &other) == nil {
		ids.walk(one, other)
	}
}

func (ids translation) walk(one, other any) {
	switch one := one.(type) {
	case string:
		if value, ok := other.(string); ok && identifier.MatchString(one) && identifier.MatchString(value) && one != value {
			ids[one] = value
		}
	case []any:
		if list, ok := other.([]any); ok {
			for index := range min(len(one), len(list)) {
				ids.walk(one[index], list[index])
			}
		}
	case map[string]any:
		if object, ok := other.(map[string]any); ok {
			for name := range one {
				ids.walk(one[name], object[name])
			}
		}
	}
}

// missing are the recorded messages that are not among the actual ones.
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
	commit    = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	address   = regexp.MustCompile(`http://[^/"]+/`)
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

// normalized is a body without ids, commits, times and addresses.
func normalized(body []byte) any {
	text := identifier.ReplaceAllString(string(body), "ID")
	text = commit.ReplaceAllString(text, "COMMIT")
	text = address.ReplaceAllString(text, "http://ADDRESS/")
	text = timestamp.ReplaceAllString(text, "TIME")
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return text
	}
	return value
}

// normalizedAll compares messages as a set: the API and the controller publish
// at the same time.
func normalizedAll(messages []string) []string {
	var all []string
	for _, message := range messages {
		content, _ := json.Marshal(normalized([]byte(message)))
		all = append(all, string(content))
	}
	slices.Sort(all)
	return all
}
