package election

import (
	"context"
	"errors"
	"strings"
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
	made := &candidate{done: make(chan error, 1), election: &Election{
		Leases:    client.CoordinationV1(),
		Pods:      client.CoreV1(),
		Namespace: "job-executor",
		Name:      "bridge",
		PodName:   name,
		PodIP:     "10.0.0.1",
		Port:      8080,
		Log:       discard,
	}}
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
		time.Sleep(3 * retryPeriod) // not the lease's duration
		if !other.leads.Load() {
			t.Error("it was not handed over")
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
