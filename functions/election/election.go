package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// leaseDuration is when another replica replaces a leader that no longer renews the Lease but still exists;
	// that leader stops itself at the renewDeadline. It is longer than the restart of an API server. A leader
	// whose pod is gone is replaced within ten seconds.
	leaseDuration = 60 * time.Second
	renewDeadline = 50 * time.Second
	// retryPeriod is the interval of the elector. Renewing the Lease is most of an idle replica's work. The period
	// bounds how long a replica works after it lost the Lease.
	retryPeriod = 4 * time.Second
	// releaseTimeout bounds the end of a term.
	releaseTimeout = 5 * time.Second
	// gonePeriod is the interval of checks whether the holder's pod is gone.
	gonePeriod = time.Second
)

// errLeaseLost ends the process, because its memory may be outdated.
var errLeaseLost = errors.New("the lease was lost to another replica, or could not be renewed")

// Pod identifies a replica.
type Pod struct {
	Namespace string `env:"POD_NAMESPACE,notEmpty"`
	Name      string `env:"POD_NAME,notEmpty"`
	IP        string `env:"POD_IP,notEmpty"`
	Port      int    `env:"PORT" envDefault:"8080"`
}

// Election elects one of several replicas with a Lease in their namespace.
type Election struct {
	Leases coordinationclient.LeasesGetter
	Pods   coreclient.PodsGetter
	// Pod is this replica.
	Pod Pod
	// Lease is the name of the Lease.
	Lease string
	Log   *slog.Logger

	holder atomic.Pointer[string]
}

// identity returns the pod's name and address for the Lease.
func (e *Election) identity() string {
	return e.Pod.Name + "_" + net.JoinHostPort(e.Pod.IP, strconv.Itoa(e.Pod.Port))
}

// Holder returns the address of the lease holder, empty if unknown.
func (e *Election) Holder() string {
	holder := e.holder.Load()
	if holder == nil {
		return ""
	}
	_, address, _ := strings.Cut(*holder, "_")
	return address
}

// Run waits until this replica is elected, and then leads with a context that ends when another one holds the
// Lease. It returns nil when its own context ends, and an error if the Lease is lost or leading fails. After
// leading it hands the Lease over.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	electing, stop := context.WithCancel(ctx)
	defer stop()
	waiting, elected := context.WithCancel(electing)
	defer elected()
	if err := e.release(ctx, e.isGone); err != nil {
		e.Log.WarnContext(ctx, "checking the lease failed; retrying", "error", err)
	}
	go e.follow(waiting)
	// A term begins at most once. The elector calls back in its own goroutines.
	var term sync.Once
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock{
			Interface: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: e.Pod.Namespace, Name: e.Lease},
				Client:    e.Leases, LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity()},
			},
			seen: func(holder string) {
				hasLed := waiting.Err() != nil
				if hasLed && holder != "" && holder != e.identity() {
					stop() // otherwise the elector would continue until the renewDeadline
				}
			},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, Name: e.Lease,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer stop()
				elected()
				term.Do(func() {
					e.Log.InfoContext(ctx, "elected", "lease", e.Lease)
					ended <- lead(ctx)
				})
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(holder string) {
				e.holder.Store(&holder)
				if holder != e.identity() {
					e.Log.InfoContext(ctx, "another replica is elected", "holder", holder)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("set up the election: %w", err)
	}
	elector.Run(electing)
	stop()
	term.Do(func() { ended <- nil }) // it never began, or Run waits for its end
	if err := <-ended; err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errLeaseLost
	}
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	isOurs := func(_ context.Context, pod string) (bool, error) { return pod == e.Pod.Name, nil }
	if err := e.release(releasing, isOurs); err != nil {
		e.Log.WarnContext(releasing, "handing the lease over failed; another replica takes it when this pod is gone", "error", err)
	}
	return nil
}

// lock reports the holder whenever the Lease is read. A holder that cannot renew the Lease reads it.
type lock struct {
	resourcelock.Interface
	seen func(holder string)
}

func (l lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, content, err := l.Interface.Get(ctx)
	if err == nil {
		l.seen(record.HolderIdentity)
	}
	return record, content, err
}

// follow releases the Lease of a holder whose pod is gone, until the context ends.
func (e *Election) follow(ctx context.Context) {
	// It only returns an error when the context ends.
	_ = wait.PollUntilContextCancel(ctx, gonePeriod, false, func(ctx context.Context) (bool, error) {
		if err := e.release(ctx, e.isGone); err != nil && ctx.Err() == nil {
			e.Log.DebugContext(ctx, "checking the lease failed; retrying", "error", err)
		}
		return false, nil
	})
}

// isGone reports whether another replica's pod does not exist any more, so that a killed one is replaced
// before its Lease expires.
func (e *Election) isGone(ctx context.Context, pod string) (bool, error) {
	if pod == e.Pod.Name {
		return false, nil
	}
	_, err := e.Pods.Pods(e.Pod.Namespace).Get(ctx, pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// release clears the holder of the Lease, if it is still this pod.
func (e *Election) release(ctx context.Context, hasDone func(ctx context.Context, pod string) (bool, error)) error {
	leases := e.Leases.Leases(e.Pod.Namespace)
	lease, err := leases.Get(ctx, e.Lease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Lease %s: %w", e.Lease, err)
	}
	pod, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	if done, err := hasDone(ctx, pod); err != nil || !done {
		return err
	}
	lease.Spec.HolderIdentity = nil
	// The update fails if another replica was faster.
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("release Lease %s: %w", e.Lease, err)
	}
	e.Log.InfoContext(ctx, "lease released", "holder", pod)
	return nil
}
