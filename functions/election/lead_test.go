package election

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// leading is an Elector under the test's control.
type leading struct {
	holder string
	begin  chan struct{}
}

func (l *leading) Holder() string { return l.holder }

func (l *leading) Run(ctx context.Context, lead func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.begin:
		return lead(ctx)
	}
}

// Loops and handlers work only while this replica is elected.
func TestReplicaWorksOnlyWhileItIsElected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elector := &leading{begin: make(chan struct{})}
		var looked, begun atomic.Int32
		var cut atomic.Bool
		handlers := map[string]function.Handler{"/": func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			cut.Store(true)
			return nil, ctx.Err()
		}}
		loops := Lead(elector, http.DefaultTransport, handlers, []func(context.Context) error{func(ctx context.Context) error {
			for ctx.Err() == nil {
				looked.Add(1)
				time.Sleep(time.Second)
			}
			return nil
		}}, func() { begun.Add(1) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loops[0](ctx) }()
		time.Sleep(10 * time.Second)
		if _, err := handlers["/"](t.Context(), task.Event(keptn.Started, noon, keptn.Outcome{})); err == nil || looked.Load()+begun.Load() > 0 {
			t.Errorf("worked before the election: %v, %d looks", err, looked.Load())
		}
		close(elector.begin)
		time.Sleep(10 * time.Second)
		handled := make(chan error, 1)
		go func() {
			_, err := handlers["/"](t.Context(), task.Event(keptn.Started, noon, keptn.Outcome{}))
			handled <- err
		}()
		synctest.Wait()
		if looked.Load() < 9 || begun.Load() != 1 {
			t.Errorf("it looked %d times", looked.Load())
		}
		cancel()
		if err := <-handled; !errors.Is(err, context.Canceled) || !cut.Load() {
			t.Errorf("what was under way ended with %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := handlers["/"](t.Context(), task.Event(keptn.Finished, noon, keptn.Errored(""))); err == nil {
			t.Error("it worked after its time was over")
		}
	})
}
