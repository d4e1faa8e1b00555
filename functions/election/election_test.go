package election

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
	"k8s.io/client-go/tools/leaderelection"
)

// candidate is a replica that records when it leads.
type candidate struct {
	election *Election
	leads    atomic.Bool
	stopped  time.Time
	done     chan error
	cancel   context.CancelFunc
}

func stand(t *testing.T, client kubernetes.Interface, name string) *candidate {
	t.Helper()
	created := &candidate{done: make(chan error, 1), election: &Election{
		Leases: client.CoordinationV1(),
		Pods:   client.CoreV1(),
		Pod:    Pod{Namespace: "job-executor", Name: name, IP: "10.0.0.1", Port: 8080},
		Lease:  "bridge",
		Log:    discard,
	}}
	var ctx context.Context
	ctx, created.cancel = context.WithCancel(t.Context())
	go func() {
		created.done <- created.election.Run(ctx, func(ctx context.Context) error {
			created.leads.Store(true)
			<-ctx.Done()
			created.leads.Store(false)
			created.stopped = time.Now()
			return nil
		})
	}()
	return created
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
		time.Sleep(takeover) // not the lease's duration
		if !other.leads.Load() {
			t.Error("it was not handed over")
		}
		other.cancel()
		<-other.done
	})
}

func TestLosingTheLeaseStopsABridgeWithinTwoLooks(t *testing.T) {
	elected(t, func(t *testing.T, client kubernetes.Interface) {
		t.Helper()
		// An update of an outdated object fails, unlike in client-go's fake.
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
		if took := one.stopped.Sub(lost); took > 2*retryPeriod {
			t.Errorf("it went on for %s", took)
		}
	})
}

// takeover is the longest time until a candidate follows a holder whose pod is gone. client-go varies the
// retryPeriod at random by the JitterFactor.
const takeover = gonePeriod + time.Duration((1+leaderelection.JitterFactor)*float64(retryPeriod))

// heldBy returns the Lease of a replica that had no time to release it.
func heldBy(holder *string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: "bridge"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: holder, LeaseDurationSeconds: new(int32(leaseDuration / time.Second)),
			AcquireTime: &metav1.MicroTime{Time: time.Now()}, RenewTime: &metav1.MicroTime{Time: time.Now()},
		},
	}
}

func TestKilledBridgeIsFollowedAtOnce(t *testing.T) {
	tests := []struct {
		name string
		pods []runtime.Object
		// dies is when the holder's pod is deleted.
		dies time.Duration
	}{
		{name: "before the other candidate"},
		{name: "while the other candidate waits", pods: []runtime.Object{podNamed("killed")}, dies: 2 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewClientset(append(test.pods, heldBy(new("killed_10.0.0.9:8080")))...)
				other := stand(t, client, "other")
				if test.dies > 0 {
					time.Sleep(test.dies)
					if other.leads.Load() {
						t.Error("it leads although the holder lives")
					}
					if err := client.CoreV1().Pods("job-executor").Delete(t.Context(), "killed", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(takeover) // not the lease's duration
				if !other.leads.Load() {
					t.Error("it waits for the lease of a pod that does not exist")
				}
				other.cancel()
				<-other.done
			})
		})
	}
}

func TestLeaseIsReleasedOnlyOnceItsHolderIsGone(t *testing.T) {
	const held = "other_10.0.0.9:8080"
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, "bridge", errDown)
	tests := []struct {
		name    string
		objects []runtime.Object
		// reading and writing are the errors of the API server.
		reading, readingPod, writing error
		// left is the final lease holder.
		left string
		err  error
	}{
		{name: "there is no lease"},
		{name: "it has no holder", objects: []runtime.Object{heldBy(nil)}},
		{name: "it was released", objects: []runtime.Object{heldBy(new(""))}},
		{name: "its holder runs", objects: []runtime.Object{heldBy(new(held)), podNamed("other")}, left: held},
		{name: "its holder is gone", objects: []runtime.Object{heldBy(new(held))}},
		{name: "its holder is this pod before a restart", objects: []runtime.Object{heldBy(new("one_10.0.0.1:8080"))}, left: "one_10.0.0.1:8080"},
		{name: "its holder cannot be read", objects: []runtime.Object{heldBy(new(held))}, readingPod: errDown, left: held, err: errDown},
		{name: "the lease can't be read", objects: []runtime.Object{heldBy(new(held))}, reading: errDown, left: held, err: errDown},
		{name: "another replica was faster", objects: []runtime.Object{heldBy(new(held))}, writing: conflict, left: held},
		{name: "the lease can't be written", objects: []runtime.Object{heldBy(new(held))}, writing: errDown, left: held, err: errDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset(test.objects...)
			failing := true
			for _, fault := range []struct {
				verb, resource string
				err            error
			}{{"get", "leases", test.reading}, {"get", "pods", test.readingPod}, {"update", "leases", test.writing}} {
				client.PrependReactor(fault.verb, fault.resource, func(clienttesting.Action) (bool, runtime.Object, error) {
					return failing && fault.err != nil, nil, fault.err
				})
			}
			election := &Election{
				Leases: client.CoordinationV1(), Pods: client.CoreV1(), Pod: Pod{Namespace: "job-executor", Name: "one"}, Lease: "bridge", Log: discard,
			}
			if err := election.release(t.Context(), election.isGone); !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			failing = false
			lease, err := client.CoordinationV1().Leases("job-executor").Get(t.Context(), "bridge", metav1.GetOptions{})
			left := ""
			if err == nil && lease.Spec.HolderIdentity != nil {
				left = *lease.Spec.HolderIdentity
			}
			if left != test.left {
				t.Errorf("%q has it, want %q", left, test.left)
			}
		})
	}
}

// The log says who leads, and why the lease fails.
func TestWhatHappensToTheLeaseIsLogged(t *testing.T) {
	tests := []struct {
		name string
		// fails are the verbs that the API server does not answer for Leases, at the
		// beginning and at the end.
		failsFirst, failsLast string
		holder                *string
		want                  []string
	}{
		{name: "leading", want: []string{"INFO elected", "INFO lease released"}},
		{
			name: "leading after the lease becomes readable", failsFirst: "get",
			want: []string{"WARN checking the lease failed; retrying", "INFO elected", "INFO lease released"},
		},
		{name: "another one leads", holder: new("other_10.0.0.9:8080"), want: []string{"INFO another replica is elected"}},
		{
			name: "the lease cannot be handed over", failsLast: "update",
			want: []string{"INFO elected", "WARN handing the lease over failed; another replica takes it when this pod is gone"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				objects := []runtime.Object{podNamed("one"), podNamed("other")}
				if test.holder != nil {
					objects = append(objects, heldBy(test.holder))
				}
				client := fake.NewClientset(objects...)
				var fails atomic.Value
				fails.Store(test.failsFirst)
				client.PrependReactor("*", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
					return action.GetVerb() == fails.Load(), nil, errDown
				})
				log := &lines{}
				election := &Election{
					Leases: client.CoordinationV1(), Pods: client.CoreV1(), Pod: Pod{Namespace: "job-executor", Name: "one", IP: "10.0.0.1", Port: 8080}, Lease: "bridge",
					Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, attribute slog.Attr) slog.Attr {
						if attribute.Key == slog.LevelKey || attribute.Key == slog.MessageKey {
							return attribute
						}
						return slog.Attr{}
					}})),
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- election.Run(ctx, func(ctx context.Context) error {
						<-ctx.Done()
						return nil
					})
				}()
				time.Sleep(100 * time.Millisecond)
				fails.Store("")
				time.Sleep(takeover) // the elector's next attempt
				fails.Store(test.failsLast)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if difference := cmp.Diff(test.want, log.read()); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		})
	}
}

// lines are those that a log has, as "LEVEL message".
type lines struct {
	mutex sync.Mutex
	all   []string
}

func (l *lines) read() []string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.all
}

func (l *lines) Write(line []byte) (int, error) {
	text := strings.TrimPrefix(strings.TrimSpace(string(line)), "level=")
	level, message, _ := strings.Cut(text, " msg=")
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.all = append(l.all, level+" "+strings.Trim(message, `"`))
	return len(line), nil
}
