package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// candidate is a bridge that stands for election, and notes when it leads.
type candidate struct {
	election *Election
	leads    atomic.Bool
	stopped  time.Time
	done     chan error
	cancel   context.CancelFunc
}

func stand(t *testing.T, client kubernetes.Interface, name string) *candidate {
	t.Helper()
	made := &candidate{done: make(chan error, 1), election: NewElection(
		Configuration{Namespace: "job-executor", Lease: "bridge", PodName: name, PodIP: "10.0.0.1", Port: 8080}, client.CoordinationV1(), client.CoreV1(), discard)}
	var ctx context.Context
	ctx, made.cancel = context.WithCancel(t.Context())
	go func() {
		made.done <- made.election.Run(ctx, func(ctx context.Context) error {
			made.leads.Store(true)
			<-ctx.Done()
			made.leads.Store(false)
			made.stopped = time.Now()
			return nil
		})
	}()
	return made
}

func podNamed(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: name}}
}

// elected runs a step of an election on a virtual clock.
func elected(t *testing.T, steps func(t *testing.T, client kubernetes.Interface)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { steps(t, fake.NewClientset(podNamed("one"), podNamed("other"))) })
}

func TestOneBridgeIsElected(t *testing.T) {
	elected(t, func(t *testing.T, client kubernetes.Interface) {
		t.Helper()
		one := stand(t, client, "one")
		time.Sleep(time.Second)
		other := stand(t, client, "other")
		time.Sleep(time.Minute)
		if !one.leads.Load() || other.leads.Load() {
			t.Errorf("leading: %v and %v", one.leads.Load(), other.leads.Load())
		}
		if difference := cmp.Diff([]string{"10.0.0.1:8080", "10.0.0.1:8080"}, []string{one.election.Holder(), other.election.Holder()}); difference != "" {
			t.Errorf("holders (-want +got):\n%s", difference)
		}
		one.cancel()
		if err := <-one.done; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * leaseDuration)
		if !other.leads.Load() {
			t.Error("nobody leads after the first has gone")
		}
		other.cancel()
		<-other.done
	})
}

func TestLosingTheLeaseStopsABridgeWithinASecond(t *testing.T) {
	elected(t, func(t *testing.T, client kubernetes.Interface) {
		t.Helper()
		// As the API server does, which client-go's fake does not: what was changed by
		// another since it was read is not overwritten.
		var stolen atomic.Bool
		client.(*fake.Clientset).PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
			lease := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			if !stolen.Load() || strings.HasPrefix(*lease.Spec.HolderIdentity, "thief") {
				return false, nil, nil
			}
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, lease.Name, errDown)
		})
		one := stand(t, client, "one")
		time.Sleep(10 * time.Second)
		stolen.Store(true)
		leases := client.CoordinationV1().Leases("job-executor")
		lease, err := leases.Get(t.Context(), "bridge", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lease.Spec.HolderIdentity, lease.Spec.RenewTime = new("thief_10.0.0.2:8080"), &metav1.MicroTime{Time: time.Now()}
		if _, err := leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		lost := time.Now()
		select {
		case err = <-one.done:
		case <-time.After(time.Minute):
		}
		if !errors.Is(err, errLeaseLost) {
			t.Fatalf("got %v", err)
		}
		if took := one.stopped.Sub(lost); took > time.Second {
			t.Errorf("it went on for %s", took)
		}
	})
}

func TestKilledBridgeIsFollowedAtOnce(t *testing.T) {
	elected(t, func(t *testing.T, client kubernetes.Interface) {
		t.Helper()
		one := stand(t, client, "one")
		time.Sleep(time.Second)
		one.cancel() // it has no time to say anything
		<-one.done
		if err := client.CoreV1().Pods("job-executor").Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		other := stand(t, client, "other")
		time.Sleep(retryPeriod)
		if !other.leads.Load() {
			t.Error("it waits for the lease of a pod that does not exist")
		}
		other.cancel()
		<-other.done
	})
}

// leading is an Elector whose lead is decided by the test.
type leading struct {
	holder string
	begin  chan struct{}
}

func (leading *leading) Holder() string { return leading.holder }

func (leading *leading) Run(ctx context.Context, lead func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-leading.begin:
		return lead(ctx)
	}
}

func TestGateForwardsToTheElectedBridge(t *testing.T) {
	replied := task.LogError(noon, "a reply")
	tests := []struct {
		name      string
		answer    func(http.ResponseWriter, *http.Request)
		holder    bool
		sent      event.Event
		reply     string
		err       string
		permanent bool
	}{
		{"its reply comes back", func(writer http.ResponseWriter, request *http.Request) {
			function.Receiver(func(context.Context, event.Event) (*event.Event, error) { return &replied, nil }, 1<<20, discard).ServeHTTP(writer, request)
		}, true, task.Started(noon), replied.Type(), "", false},
		{"or that there is none", func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(http.StatusAccepted) }, true, task.Started(noon), "", "", false},
		{"an error is repeated", func(writer http.ResponseWriter, _ *http.Request) {
			http.Error(writer, "not now", http.StatusServiceUnavailable)
		}, true, task.Started(noon), "", "with 503: not now", false},
		{"a permanent one is not", func(writer http.ResponseWriter, _ *http.Request) { http.Error(writer, "never", http.StatusBadRequest) }, true, task.Started(noon), "", "with 400: never", true},
		{"nobody is elected", nil, false, task.Started(noon), "", "no bridge is elected at the moment", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var paths []string
			server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
				paths = append(paths, fmt.Sprint(request.URL.Path, " ", request.Header.Get("Ce-"+forwardedExtension)))
				test.answer(writer, request)
			}))
			defer server.Close()
			gate := &Gate{HTTP: http.DefaultClient, Holder: func() string {
				if test.holder {
					return strings.TrimPrefix(server.URL, "http://")
				}
				return ""
			}}
			handle := gate.Handler("/keptn", func(context.Context, event.Event) (*event.Event, error) {
				t.Error("it was handled here")
				return nil, nil
			})
			reply, err := handle(t.Context(), test.sent)
			got := ""
			if reply != nil {
				got = reply.Type()
			}
			if got != test.reply || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || function.IsPermanent(err) != test.permanent {
				t.Errorf("got %q, %v", got, err)
			}
			if test.holder {
				if difference := cmp.Diff([]string{"/keptn true"}, paths); difference != "" {
					t.Errorf("requests (-want +got):\n%s", difference)
				}
			}
		})
	}
}

// While another bridge is elected nothing is polled and nothing is sent to Keptn;
// once this one is, everything is; and no longer when its time is over.
func TestBridgeWorksOnlyWhileItIsElected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elector := &leading{begin: make(chan struct{})}
		var looked, begun atomic.Int32
		var cut atomic.Bool
		handlers := map[string]function.Handler{"/keptn": func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			cut.Store(true)
			return nil, ctx.Err()
		}}
		loops := Dependencies{Elector: elector, Peers: http.DefaultClient}.elected(handlers, []func(context.Context) error{func(ctx context.Context) error {
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
		if _, err := handlers["/keptn"](t.Context(), task.Started(noon)); err == nil || looked.Load()+begun.Load() > 0 {
			t.Errorf("it worked before it was elected: %v, %d looks", err, looked.Load())
		}
		close(elector.begin)
		time.Sleep(10 * time.Second)
		handled := make(chan error, 1)
		go func() {
			_, err := handlers["/keptn"](t.Context(), task.Started(noon))
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
		if _, err := handlers["/keptn"](t.Context(), task.Finished(noon, keptn.Errored(""))); err == nil {
			t.Error("it worked after its time was over")
		}
	})
}
