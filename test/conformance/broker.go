package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/job-executor/job-executor/test/console"
)

// Broker has the addresses of a Broker with the Triggers of broker.yaml and of its subscriber.
type Broker struct {
	HTTP               *http.Client
	URL, SubscriberURL string
	// IsDurable is true if it answers as soon as it has stored an event, before it delivers, as with channels in NATS
	// JetStream (eventing-natss 0.48). These neither repeat deliveries that were answered with 4xx, except for 408 and 429, nor
	// send dead letters for them.
	IsDurable bool
}

// durableLimit bounds the deliveries of a durable Broker, with their retries.
const durableLimit = time.Minute

// send posts an event and returns the status of the Broker's answer.
func (b Broker) send(ctx context.Context, sent event.Event) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL, nil)
	if err != nil {
		return 0, fmt.Errorf("create a request: %w", err)
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&sent), request); err != nil {
		return 0, fmt.Errorf("encode event %s: %w", sent.ID(), err)
	}
	status, _, err := b.do(request)
	return status, err
}

// seen returns the subscribers' records of an event and its replies.
func (b Broker) seen(ctx context.Context, id string) ([]Seen, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.SubscriberURL+"/?id="+id, nil)
	if err != nil {
		return nil, fmt.Errorf("create a request: %w", err)
	}
	status, content, err := b.do(request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the subscriber answered %d: %s", status, content)
	}
	if err != nil {
		return nil, err
	}
	var seen []Seen
	if err := json.Unmarshal(content, &seen); err != nil {
		return nil, fmt.Errorf("decode what was seen: %w", err)
	}
	return seen, nil
}

func (b Broker) do(request *http.Request) (int, []byte, error) {
	response, err := b.HTTP.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", request.URL.Host, err)
	}
	defer func() { _ = response.Body.Close() }()
	const most = 1 << 20
	content, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return response.StatusCode, content, nil
}

// Types that the Triggers of broker.yaml filter for.
const (
	plainType   = "conformance.plain"
	deadType    = "conformance.dead"
	timeoutType = "conformance.timeout"
	replyType   = "conformance.reply"
	pairType    = "conformance.pair"
	// receiverType has no Trigger of its own.
	receiverType = "conformance.received"
)

func answers(statuses ...int) []Answer {
	var scripted []Answer
	for _, status := range statuses {
		scripted = append(scripted, Answer{Status: status})
	}
	return scripted
}

// TestBroker sends events that script their subscribers' answers, and compares the view of sender, subscribers
// and dead letter sink.
func TestBroker(t *testing.T, broker Broker) {
	type outcome struct {
		Status int
		Seen   []Seen
	}
	const accepted = http.StatusAccepted
	failed, attempts := http.StatusInternalServerError, 3
	if broker.IsDurable {
		failed, attempts = accepted, 1
	}
	dead := func(path Seen, sink Seen) []Seen {
		if broker.IsDurable {
			return []Seen{path}
		}
		return []Seen{path, sink}
	}
	tests := []struct {
		name string
		// eventType and attributes are visible to filters.
		eventType  string
		attributes map[string]string
		script     Script
		want       outcome
	}{
		{"an answer without a body is the end", plainType, nil, Script{"/plain": answers(202)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: 1}}}},
		{"so is 200 without a body", plainType, nil, Script{"/plain": answers(200)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: 1}}}},
		{"a success whose body is no event is repeated as 502", plainType, nil, Script{"/plain": {{Status: 200, Body: "done"}, {Status: 202}}}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: 2}}}},
		{"5xx is repeated", plainType, nil, Script{"/plain": answers(500, 503, 202)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: 3}}}},
		{"404, 408, 409 and 429 are repeated", plainType, nil, Script{"/plain": answers(404, 408, 202)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: attempts}}}},
		{"409 and 429 as well", plainType, nil, Script{"/plain": answers(409, 429, 202)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: attempts}}}},
		{"408 and 429 in any case", plainType, nil, Script{"/plain": answers(408, 429, 202)}, outcome{accepted, []Seen{{Path: "/plain", Type: plainType, Attempts: 3}}}},
		{"400 is not repeated, and fails the sender", plainType, nil, Script{"/plain": answers(400)}, outcome{failed, []Seen{{Path: "/plain", Type: plainType, Attempts: 1}}}},
		{"nor is 413", plainType, nil, Script{"/plain": answers(413)}, outcome{failed, []Seen{{Path: "/plain", Type: plainType, Attempts: 1}}}},
		{"after all retries the sender fails", plainType, nil, Script{"/plain": answers(503, 503, 503, 202)}, outcome{failed, []Seen{{Path: "/plain", Type: plainType, Attempts: 3}}}},
		{"what takes longer than the timeout is repeated", timeoutType, nil, Script{"/timeout": {{Status: 202, Delay: 3 * time.Second}, {Status: 202}}}, outcome{accepted, []Seen{{Path: "/timeout", Type: timeoutType, Attempts: 2}}}},
		{"a dead letter has the status and the refusal", deadType, nil, Script{"/dead": {{Status: 503, Body: "not now"}, {Status: 400, Body: "never"}}, "/sink": answers(202)}, outcome{accepted, dead(
			Seen{Path: "/dead", Type: deadType, Attempts: 2}, Seen{Path: "/sink", Type: deadType, Attempts: 1, ErrorCode: "400", ErrorData: "never"},
		)}},
		{"after all retries, too", deadType, nil, Script{"/dead": answers(503, 503, 503), "/sink": answers(202)}, outcome{accepted, []Seen{
			{Path: "/dead", Type: deadType, Attempts: 3}, {Path: "/sink", Type: deadType, Attempts: 1, ErrorCode: "503"},
		}}},
		{"a sink that fails fails the sender, after its own retries", deadType, nil, Script{"/dead": answers(400), "/sink": answers(503, 503, 503)}, outcome{failed, dead(
			Seen{Path: "/dead", Type: deadType, Attempts: 1}, Seen{Path: "/sink", Type: deadType, Attempts: 3, ErrorCode: "400"},
		)}},
		{"a reply enters the Broker again before the sender is answered", replyType, nil, Script{"/reply": {{Status: 200, Reply: plainType}}, "/plain": answers(202)}, outcome{accepted, []Seen{
			{Path: "/plain", Type: plainType, Attempts: 1}, {Path: "/reply", Type: replyType, Attempts: 1},
		}}},
		{"a reply that can't be delivered fails the sender; each layer repeats, but not the one who replied", replyType, nil, Script{"/reply": {{Status: 200, Reply: plainType}}, "/plain": answers(400, 400, 400, 400, 400, 400)}, outcome{failed, []Seen{
			{Path: "/plain", Type: plainType, Attempts: attempts}, {Path: "/reply", Type: replyType, Attempts: 1},
		}}},
		{"a reply that nobody filters for is taken", replyType, nil, Script{"/reply": {{Status: 200, Reply: "conformance.nobody"}}}, outcome{accepted, []Seen{{Path: "/reply", Type: replyType, Attempts: 1}}}},
		{"what nobody filters for is taken", "conformance.nobody", nil, Script{}, outcome{accepted, nil}},
		{"two Triggers both get it; one that fails fails the sender, and the other has it all the same", pairType, nil, Script{"/one": answers(202), "/other": answers(400)}, outcome{failed, []Seen{
			{Path: "/one", Type: pairType, Attempts: 1}, {Path: "/other", Type: pairType, Attempts: 1},
		}}},
		{"an attribute filters events of any type", receiverType, map[string]string{"receiver": "own"}, Script{"/receiver": answers(202)}, outcome{accepted, []Seen{{Path: "/receiver", Type: receiverType, Attempts: 1}}}},
		{"another value does not pass", receiverType, map[string]string{"receiver": "others"}, Script{}, outcome{accepted, nil}},
		{"nor does an event without the attribute", receiverType, nil, Script{}, outcome{accepted, nil}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sent := event.New()
			sent.SetID(uuid.NewString())
			sent.SetType(test.eventType)
			sent.SetSource("conformance")
			for name, value := range test.attributes {
				sent.SetExtension(name, value)
			}
			if err := sent.SetData(event.ApplicationJSON, test.script); err != nil {
				t.Fatal(err)
			}
			var got outcome
			var err error
			if got.Status, err = broker.send(t.Context(), sent); err != nil {
				t.Fatal(err)
			}
			compare := func(ctx context.Context) error {
				if got.Seen, err = broker.seen(ctx, sent.ID()); err != nil {
					return err
				}
				if difference := cmp.Diff(test.want, got); difference != "" {
					return errors.New("(-want +got):\n" + difference)
				}
				return nil
			}
			if broker.IsDurable {
				err = console.Eventually(t.Context(), durableLimit, compare)
			} else {
				err = compare(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("what is no event is refused", func(t *testing.T) {
		sent := event.New()
		sent.SetType(plainType)
		status, err := broker.send(t.Context(), sent)
		if err != nil || status != http.StatusBadRequest {
			t.Errorf("got %d, %v", status, err)
		}
	})
}
