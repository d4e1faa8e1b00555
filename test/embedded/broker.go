package embedded

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/rickb777/date/period"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	pkgduckv1 "knative.dev/pkg/apis/duck/v1"
)

// Broker is an http.Handler that behaves like Knative 1.21's Broker over the in-memory channel towards senders,
// subscribers and dead letter sinks. It answers with 202 only after every matching Trigger has delivered the
// event and its reply. It retries what Knative retries, and then sends the event to the dead letter sink or
// answers 500.
type Broker struct {
	// URL is the Broker's own address, which receives replies.
	URL string
	// Transport delivers.
	Transport http.RoundTripper
	// Observe is called for each delivery after the subscriber's answer and before the delivery of its reply.
	// It may be nil.
	Observe func(Delivery)
	// Misreads reports whether a Trigger's filter fails to read an event; nil never does.
	Misreads func(trigger string, received event.Event) bool
	// Vague makes dead letters like those of RabbitMQ's Broker (eventing-rabbitmq 0.48, pkg/dispatcher). They lack the text of the
	// answer. The status is -1 without an answer, and 200 if the subscriber accepted the event and its reply failed.
	Vague bool

	triggers []subscription
}

// Delivery is the delivery of an event to a Trigger's subscriber.
type Delivery struct {
	// Trigger is the Trigger's name.
	Trigger string
	Event   event.Event
	// Reply is the subscriber's reply, nil for none.
	Reply *event.Event
	// Attempts is the number of attempts.
	Attempts int
	// Err is why it failed, nil on success.
	Err error
}

type subscription struct {
	name           string
	filter         eventfilter.Filter
	subscriber     string
	deadLetterSink string
	retries        int
	backoff        func(attempt int) time.Duration
	timeout        time.Duration
}

const (
	ttlExtension = "knativebrokerttl"
	// firstTTL bounds the hops of an event and its replies.
	firstTTL = 255
	// maxErrorData bounds the part of a refusal that reaches the dead letter sink, encoded.
	maxErrorData = 1024
	// maxAnswer bounds a subscriber's answer.
	maxAnswer = 8 << 20
)

// NewBroker returns a Broker for Triggers.
func NewBroker(url string, triggers []eventingv1.Trigger, transport http.RoundTripper) (*Broker, error) {
	broker := &Broker{URL: url, Transport: transport}
	for index := range triggers {
		subscribed, err := newSubscription(&triggers[index])
		if err != nil {
			return nil, fmt.Errorf("Trigger %s: %w", triggers[index].Name, err)
		}
		broker.triggers = append(broker.triggers, subscribed)
	}
	return broker, nil
}

func newSubscription(trigger *eventingv1.Trigger) (subscription, error) {
	if trigger.Spec.Filter == nil || len(trigger.Spec.Filters) > 0 {
		return subscription{}, errors.New("not every Broker knows its filters; use spec.filter")
	}
	subscribed := subscription{
		name: trigger.Name, filter: attributes.NewAttributesFilter(trigger.Spec.Filter.Attributes), subscriber: address(trigger.Spec.Subscriber, trigger.Namespace),
	}
	delivery := trigger.Spec.Delivery
	if delivery == nil {
		return subscribed, nil
	}
	if delivery.DeadLetterSink != nil {
		subscribed.deadLetterSink = address(*delivery.DeadLetterSink, trigger.Namespace)
	}
	if delivery.Retry != nil {
		subscribed.retries = int(*delivery.Retry)
	}
	delay, err := duration(delivery.BackoffDelay)
	if err != nil {
		return subscription{}, err
	}
	subscribed.backoff = func(attempt int) time.Duration { return delay * time.Duration(attempt) }
	if delivery.BackoffPolicy == nil || *delivery.BackoffPolicy == duckv1.BackoffPolicyExponential {
		subscribed.backoff = func(attempt int) time.Duration { return delay * time.Duration(math.Exp2(float64(attempt))) }
	}
	subscribed.timeout, err = duration(delivery.Timeout)
	return subscribed, err
}

func duration(iso *string) (time.Duration, error) {
	if iso == nil {
		return 0, nil
	}
	parsed, err := period.Parse(*iso)
	if err != nil {
		return 0, fmt.Errorf("duration %q: %w", *iso, err)
	}
	return parsed.DurationApprox(), nil
}

// address returns the address of a Trigger's destination as Knative resolves it for Kubernetes Services and
// cluster-local Knative Services.
func address(destination pkgduckv1.Destination, namespace string) string {
	base := ""
	if reference := destination.Ref; reference != nil {
		if reference.Namespace != "" {
			namespace = reference.Namespace
		}
		base = "http://" + reference.Name + "." + namespace + ".svc.cluster.local"
	}
	if destination.URI != nil {
		base += destination.URI.String()
	}
	return base
}

// ServeHTTP receives an event.
func (b *Broker) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		writer.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	received, err := binding.ToEvent(request.Context(), cehttp.NewMessageFromHttpRequest(request))
	if err == nil {
		err = received.Validate()
	}
	if err != nil {
		writer.WriteHeader(http.StatusBadRequest)
		return
	}
	hops := int32(firstTTL)
	if value, ok := received.Extensions()[ttlExtension]; ok {
		if hops, err = types.ToInteger(value); err != nil || hops <= 1 {
			writer.WriteHeader(http.StatusBadRequest)
			return
		}
		hops--
	}
	received.SetExtension(ttlExtension, nil)
	if !b.fanOut(request.Context(), *received, hops) {
		writer.WriteHeader(http.StatusInternalServerError)
		return
	}
	writer.WriteHeader(http.StatusAccepted)
}

// fanOut delivers to all Triggers concurrently and reports whether all succeeded.
func (b *Broker) fanOut(ctx context.Context, received event.Event, hops int32) bool {
	var group sync.WaitGroup
	failures := make([]error, len(b.triggers))
	for index := range b.triggers {
		trigger := &b.triggers[index]
		if b.Misreads != nil && b.Misreads(trigger.name, received) {
			failures[index] = ErrReset
			group.Go(func() { failures[index] = b.misread(ctx, trigger, received.Clone()) })
			continue
		}
		if trigger.filter.Filter(ctx, received) == eventfilter.FailFilter {
			continue
		}
		failures[index] = ErrReset // unless the delivery ends
		group.Go(func() { failures[index] = b.deliver(ctx, trigger, received.Clone(), hops) })
	}
	group.Wait()
	return errors.Join(failures...) == nil
}

func (b *Broker) deliver(ctx context.Context, trigger *subscription, received event.Event, hops int32) error {
	delivery := Delivery{Trigger: trigger.name, Event: received}
	reply, failed := b.attempt(ctx, trigger, trigger.subscriber, received, &delivery.Attempts)
	delivery.Reply = reply
	if failed != nil {
		delivery.Err = failed
	}
	b.observe(delivery)
	if failed == nil && reply != nil {
		outgoing := reply.Clone()
		outgoing.SetExtension(ttlExtension, hops)
		attempts := 0
		_, failed = b.attempt(ctx, trigger, b.URL, outgoing, &attempts)
	}
	if failed == nil {
		return nil
	}
	if trigger.deadLetterSink != "" {
		dead := received.Clone()
		b.describe(&dead, trigger.subscriber, failed)
		attempts := 0
		if _, again := b.attempt(ctx, trigger, trigger.deadLetterSink, dead, &attempts); again == nil {
			return nil
		}
	}
	return failed
}

// describe adds to a dead letter why it is one.
func (b *Broker) describe(dead *event.Event, subscriber string, failed *failure) {
	if b.Vague {
		status := failed.status
		switch {
		case failed.destination != subscriber:
			status = http.StatusOK
		case failed.err != nil:
			status = -1
		}
		dead.SetExtension("knativeerrordest", subscriber)
		dead.SetExtension("knativeerrorcode", status)
		return
	}
	dead.SetExtension("knativeerrordest", failed.destination)
	dead.SetExtension("knativeerrorcode", failed.status)
	data := base64.StdEncoding.EncodeToString(failed.body)
	if len(data) > maxErrorData {
		data = data[:maxErrorData]
	}
	dead.SetExtension("knativeerrordata", data)
}

// misread handles an event that a Trigger's filter failed to read in time, like Knative: the event is a dead
// letter without details, even if the Trigger does not want it.
func (b *Broker) misread(ctx context.Context, trigger *subscription, received event.Event) error {
	if trigger.deadLetterSink == "" {
		return &failure{destination: trigger.name, status: http.StatusBadRequest, body: []byte("i/o timeout")}
	}
	attempts := 0
	if _, failed := b.attempt(ctx, trigger, trigger.deadLetterSink, received, &attempts); failed != nil {
		return failed
	}
	return nil
}

func (b *Broker) observe(delivery Delivery) {
	if b.Observe != nil {
		b.Observe(delivery)
	}
}

// failure is an error response, or none.
type failure struct {
	destination string
	status      int
	body        []byte
	err         error
}

func (f *failure) Error() string {
	if f.err != nil {
		return fmt.Sprintf("%s: %v", f.destination, f.err)
	}
	return fmt.Sprintf("%s answered %d: %s", f.destination, f.status, bytes.TrimSpace(f.body))
}

// attempt sends an event until it is accepted, refused for good, or retried often enough. It returns the reply.
func (b *Broker) attempt(ctx context.Context, trigger *subscription, destination string, outgoing event.Event, attempts *int) (*event.Event, *failure) {
	for {
		*attempts++
		reply, failed := b.send(ctx, trigger.timeout, destination, outgoing)
		if failed == nil || !isRetried(failed) || *attempts > trigger.retries || ctx.Err() != nil {
			return reply, failed
		}
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(trigger.backoff(*attempts - 1)):
		}
	}
}

// isRetried is Knative's rule (knative.dev/eventing/pkg/kncloudevents,
// SelectiveRetry).
func isRetried(failed *failure) bool {
	switch {
	case failed.err != nil, failed.status >= http.StatusInternalServerError:
		return true
	}
	switch failed.status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	default:
		return false
	}
}

func (b *Broker) send(ctx context.Context, timeout time.Duration, destination string, outgoing event.Event) (*event.Event, *failure) {
	failed := func(err error) *failure {
		return &failure{destination: destination, status: http.StatusInternalServerError, body: []byte("dispatch error: " + err.Error()), err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, destination, nil)
	if err != nil {
		return nil, failed(err)
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&outgoing), request); err != nil {
		return nil, failed(err)
	}
	request.Header.Set("Prefer", "reply")
	response, err := (&http.Client{Transport: b.Transport, Timeout: timeout}).Do(request)
	if err != nil {
		return nil, failed(err)
	}
	defer discard(response)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, failed(err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, &failure{destination: destination, status: response.StatusCode, body: body}
	}
	message := cehttp.NewMessage(response.Header, io.NopCloser(bytes.NewReader(body)))
	if message.ReadEncoding() == binding.EncodingUnknown {
		if len(body) > 0 && destination != b.URL {
			// Knative treats this as a malformed reply.
			return nil, &failure{destination: destination, status: http.StatusBadGateway, body: body}
		}
		return nil, nil
	}
	reply, err := binding.ToEvent(ctx, message)
	if err != nil {
		return nil, failed(err)
	}
	return reply, nil
}
