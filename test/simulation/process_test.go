package simulation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/embedded"
)

// process is a running program. It dies at one of its await points, where each of its goroutines ends.
type process struct {
	world *world
	name  string
	// version is the version of its events.
	version int
	ctx     context.Context
	die     context.CancelFunc
}

func (w *world) newProcess(name string) *process {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	created := &process{world: w, name: name, version: w.versions[name]}
	created.ctx, created.die = context.WithCancel(w.ctx)
	w.processes[name] = created
	return created
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

// fault is the fault of a call.
type fault int

const (
	none fault = iota
	// before: the call fails without effect.
	before
	// after: the call fails after its effect.
	after
)

// Probabilities of faults per call or await point.
const (
	crashChance  = 0.001
	failChance   = 0.02
	doubleChance = 0.01
	slowChance   = 0.01
	stuckChance  = 0.001
)

// requestLimit is the timeoutSeconds of our Knative Services.
const requestLimit = 90 * time.Second

// await passes some time, in which the process may die.
func (p *process) await(ctx context.Context, what string) {
	if p.dead() {
		runtime.Goexit()
	}
	random := p.world.chance.draw("%s awaits %s", p.name, what)
	dies := p.world.faulty() && random.Float64() < crashChance
	pause := between(random, 100*time.Microsecond, 20*time.Millisecond)
	if p.world.faulty() {
		switch draw := random.Float64(); {
		case draw < stuckChance:
			pause = between(random, 20*time.Second, 100*time.Second)
		case draw < slowChance:
			pause = between(random, 100*time.Millisecond, 10*time.Second)
		}
	}
	if strings.HasPrefix(what, "list events ") && p.world.crowded.Load() {
		pause = between(random, time.Second, 30*time.Second)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if !p.dead() { // otherwise that may be the cause
			// Goroutines that waited for the same event continue one after the other.
			time.Sleep(between(random, 1, time.Millisecond))
		}
	case <-p.ctx.Done():
	}
	if dies && !p.dead() {
		p.world.note("%s dies at %s", p.name, what)
		p.die()
	}
	if p.dead() {
		runtime.Goexit()
	}
	p.world.note("%s %s", p.name, what)
}

// fails decides the fault of a call.
func (p *process) fails(what string) fault {
	if !p.world.faulty() {
		return none
	}
	switch draw := p.world.chance.draw("%s fails %s", p.name, what).Float64(); {
	case draw < failChance/2:
		return before
	case draw < failChance:
		return after
	default:
		return none
	}
}

// RoundTrip makes a request, which may fail, and may arrive again later.
func (p *process) RoundTrip(request *http.Request) (*http.Response, error) {
	what := fmt.Sprintf(
		"%s %s%s?%s %s %s",
		request.Method,
		request.URL.Host,
		request.URL.Path,
		request.URL.RawQuery,
		request.Header.Get("Ce-Type"),
		request.Header.Get("Ce-Id"),
	)
	var body []byte
	if request.Body != nil {
		body, _ = io.ReadAll(request.Body)
		_ = request.Body.Close()
	}
	again := func(ctx context.Context) *http.Request {
		copied := request.Clone(ctx)
		copied.Body = io.NopCloser(bytes.NewReader(body))
		return copied
	}
	p.world.post(request)
	p.await(request.Context(), what)
	// Concurrent requests for the same thing must not arrive at the same time.
	what += " of " + time.Since(p.world.began).String()
	failure := p.fails(what)
	if failure == before {
		return nil, embedded.ErrRefused
	}
	world := p.world
	if world.faulty() && request.Header.Get("Ce-Id") != "" && world.chance.draw("%s doubles %s", p.name, what).Float64() < doubleChance {
		pause := between(world.chance.draw("%s doubles %s later", p.name, what), time.Millisecond, time.Minute)
		go func() { //nolint:contextcheck // it outlives the request
			time.Sleep(pause)
			if world.ctx.Err() == nil {
				world.note("again: %s", what)
				ctx, cancel := context.WithTimeout(world.ctx, requestLimit)
				defer cancel()
				if response, err := world.network.RoundTrip(again(ctx)); err == nil {
					_ = response.Body.Close()
				}
			}
		}()
	}
	response, err := world.network.RoundTrip(again(request.Context()))
	if err == nil && strings.HasSuffix(request.URL.Path, "/v1/event") && response.StatusCode == http.StatusBadRequest {
		world.happen("Keptn refused an event")
	}
	p.await(request.Context(), "the answer to "+what)
	if failure == after && err == nil {
		_ = response.Body.Close()
		return nil, embedded.ErrReset
	}
	return response, err
}

var jobs = schema.GroupResource{Group: "batch", Resource: "jobs"}

// call makes a call of the Kubernetes API, which may fail.
func (p *process) call(ctx context.Context, operation string, do func() error) error {
	p.world.called()
	if strings.HasPrefix(operation, "list jobs "+run.Selector) && !strings.Contains(operation, run.EventIDLabel) {
		// The call belongs to an informer, whose goroutines do not survive the end of one of them.
		p.world.awaitNamespace(ctx, operation)
		return do()
	}
	p.await(ctx, operation)
	if p.world.apiDown.Load() {
		return errAPIDown
	}
	if err := p.world.unlogged(ctx, operation); err != nil {
		p.await(ctx, "no log")
		return err
	}
	operation += " of " + time.Since(p.world.began).String()
	failure := none
	if !p.world.many || !strings.HasPrefix(operation, "list ") { // otherwise one of a hundred lists would always fail
		failure = p.fails(operation)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failure == before {
		switch p.world.chance.draw("%s refuses %s", p.name, operation).IntN(3) {
		case 0:
			return apierrors.NewConflict(jobs, operation, fmt.Errorf("simulated"))
		case 1:
			return apierrors.NewTooManyRequests("simulated", 1)
		default:
			return apierrors.NewInternalError(fmt.Errorf("simulated"))
		}
	}
	err := do()
	p.await(ctx, "the answer to "+operation)
	if failure == after {
		return apierrors.NewTimeoutError("simulated", 1)
	}
	return err
}

// serve passes requests to a handler as long as the process lives.
func (p *process) serve(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithCancel(request.Context())
		defer cancel()
		stop := context.AfterFunc(p.ctx, cancel) //nolint:contextcheck // the process may die first
		defer stop()
		if p.dead() {
			runtime.Goexit()
		}
		handler.ServeHTTP(writer, request.WithContext(ctx))
		if p.dead() {
			runtime.Goexit()
		}
	})
}
