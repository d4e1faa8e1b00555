package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/test/conformance"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// The figures for comparison.
const (
	helloWarm   = "hello, through Broker and Trigger, warm"
	bareLoop    = "Jobs created by a bare loop, 16 at a time"
	peer        = "Jobs created by Knative's JobSink"
	bareTiny    = "bare Jobs that complete"
	concurrency = 16
)

// A state is the state of the functions when a task arrives, and the transport.
type state string

const (
	fromZero          state = "from zero"
	fromZeroUnguarded state = "from zero, without NetworkPolicies"
	warm              state = "warm"
	overHTTP          state = "warm, over HTTP"
)

// limit is the figure for comparison with latencies in that state.
func (s state) limit() string {
	if s.isFromZero() {
		return "hello, " + string(s)
	}
	return helloWarm
}

func (s state) isFromZero() bool { return s == fromZero || s == fromZeroUnguarded }

// latencies runs tasks one after the other, with hello in between.
func (b *bench) latencies(ctx context.Context, count int, s state) (err error) {
	switch s {
	case fromZeroUnguarded: // hello has none either
		const policies = "config/800-network.yaml"
		defer afterwards(ctx, &err, func(ctx context.Context) error { return b.installed.Apply(ctx, policies) })
		err = b.installed.Remove(ctx, policies)
	case overHTTP:
		defer afterwards(ctx, &err, func(ctx context.Context) error { return b.installed.UseTransport(ctx, "nats", system.CountingTime) })
		err = b.installed.UseTransport(ctx, "http", system.CountingTime)
		if err == nil {
			err = wait(ctx, system.CountingTime) // a new bridge asks Keptn's archive before it sends
		}
	case fromZero, warm:
	}
	if err != nil {
		return err
	}
	if !s.isFromZero() { // a first event warms the functions
		if _, err := b.sequences(ctx, 1); err != nil {
			return err
		}
		if _, err := b.hello(ctx); err != nil {
			return err
		}
	}
	before, err := b.installed.Requests(ctx)
	if err != nil {
		return err
	}
	var contexts []string
	var hellos []float64
	// The kubelet checks pods once a second. Without jitter every start would meet the same moment of that
	// second.
	random := rand.New(rand.NewPCG(0, 0)) //nolint:gosec // no secret
	someTime := func() error {
		if !s.isFromZero() {
			return nil
		}
		return wait(ctx, time.Duration(random.Int64N(int64(kubeletLooks*time.Millisecond))))
	}
	for range count {
		if s.isFromZero() {
			if err := b.awaitZero(ctx); err != nil {
				return err
			}
		}
		if err := someTime(); err != nil {
			return err
		}
		took, err := b.hello(ctx)
		if err != nil {
			return err
		}
		hellos = append(hellos, took)
		if err := someTime(); err != nil {
			return err
		}
		one, err := b.sequences(ctx, 1)
		if err != nil {
			return err
		}
		contexts = append(contexts, one...)
	}
	limit := s.limit()
	if s != overHTTP {
		b.report.add(limit, "ms", "", hellos...)
	}
	b.report.add("triggered to started, "+string(s), "ms", limit, b.moments.milliseconds(contexts, triggered, started)...)
	b.report.add("completed to finished, "+string(s), "ms", limit, b.moments.milliseconds(contexts, completed, finished)...)
	if s.isFromZero() {
		return nil
	}
	after, err := b.installed.Requests(ctx)
	if err != nil {
		return err
	}
	each := func(name string) float64 { return float64(after[name]-before[name]) / float64(count) }
	b.report.add("requests to Keptn per task, "+string(s), "1", "", each(system.ToKeptn))
	if s == overHTTP {
		return nil
	}
	total := 0.0
	for _, name := range functions() {
		b.report.add("API requests of the "+name+" per task", "1", "", each(name))
		total += each(name)
	}
	b.report.add("API requests per task, in all", "1", "", total)
	return b.spans(ctx, contexts)
}

func functions() []string { return []string{"bridge", "executor", "jobsource", "watcher"} }

// newEvent returns an event of the benchmark.
func newEvent(what string) event.Event {
	created := event.New()
	created.SetID(uuid.NewString())
	created.SetSource("bench")
	created.SetType("bench." + what)
	return created
}

// hello sends an event to an empty function, and returns its latency in milliseconds.
func (b *bench) hello(ctx context.Context) (float64, error) {
	sent := newEvent("hello")
	if err := sent.SetData(event.ApplicationJSON, conformance.Script{"/": {{Status: http.StatusAccepted}}}); err != nil {
		return 0, fmt.Errorf("encode an event for hello: %w", err)
	}
	began := time.Now()
	if err := (&function.Sender{URL: b.broker, HTTP: http.DefaultClient}).Send(ctx, sent); err != nil {
		return 0, err
	}
	return inMilliseconds(time.Since(began)), nil
}

func (b *bench) awaitZero(ctx context.Context) error {
	if err := b.installed.WaitForZero(ctx, zeroLimit, "executor-"+task, "watcher"); err != nil {
		return err
	}
	return console.Eventually(ctx, zeroLimit, func(ctx context.Context) error {
		pods, err := b.installed.Kubernetes.CoreV1().Pods("bench").List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("hello has %d pods", len(pods.Items))
		}
		return err
	})
}

// addServices creates as many services as sequences will run at once, because Keptn runs one sequence of a service
// at a time.
func (b *bench) addServices(ctx context.Context, count int) error {
	for ; b.services < count; b.services++ {
		name := fmt.Sprintf("service-%d", b.services)
		if err := b.installed.AddService(ctx, b.project, name, []string{stage}, files()); err != nil {
			return err
		}
	}
	return nil
}

// trigger triggers sequences at once, each of its own service.
func (b *bench) trigger(ctx context.Context, count int) ([]string, error) {
	if err := b.addServices(ctx, count); err != nil {
		return nil, err
	}
	contexts := make([]string, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for index := range count {
		group.Go(func() (err error) {
			contexts[index], err = b.installed.Trigger(ctx, b.project, stage, sequence, fmt.Sprintf("service-%d", index), nil)
			return err
		})
	}
	return contexts, group.Wait()
}

// sequences runs a number of concurrent sequences to their end.
func (b *bench) sequences(ctx context.Context, count int) ([]string, error) {
	contexts, err := b.trigger(ctx, count)
	if err != nil {
		return nil, err
	}
	if err := b.moments.await(ctx, stepLimit, contexts, finished); err != nil {
		return nil, err
	}
	return contexts, b.moments.await(ctx, stepLimit, contexts, completed)
}
