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
	// leaseDuration is after what time another bridge takes the place of one that no
	// longer renews the lease, and is still there; that one has stopped by itself at the
	// renewDeadline. It is longer than an API server is away that is restarted. One whose
	// pod is gone is followed within a few seconds.
	leaseDuration = 60 * time.Second
	renewDeadline = 50 * time.Second
	// retryPeriod is the time between two looks at the lease, client-go's usual one; it
	// bounds how long a bridge goes on whose lease was taken away.
	retryPeriod = 2 * time.Second
	// releaseTimeout bounds the end of a term.
	releaseTimeout = 5 * time.Second
	// gonePeriod is the time between two looks whether the holder's pod is gone.
	gonePeriod = time.Second
)

// errLeaseLost ends the process: what it remembers may not be true any more.
var errLeaseLost = errors.New("the lease was lost to another bridge, or could not be renewed")

// Election elects one of several bridges, by a Lease.
type Election struct {
	Leases    coordinationclient.LeasesGetter
	Pods      coreclient.PodsGetter
	Namespace string
	// Name is the Lease's.
	Name string
	// PodName, PodIP and Port are this bridge's.
	PodName, PodIP string
	Port           int
	Log            *slog.Logger

	holder atomic.Pointer[string]
}

// identity is the pod's name and address, as the Lease has it.
func (e *Election) identity() string {
	return e.PodName + "_" + net.JoinHostPort(e.PodIP, strconv.Itoa(e.Port))
}

// Holder is the address of the bridge that holds the lease, empty if none is known.
func (e *Election) Holder() string {
	holder := e.holder.Load()
	if holder == nil {
		return ""
	}
	_, address, _ := strings.Cut(*holder, "_")
	return address
}

// Run waits until this bridge is elected and then leads, with a context that ends
// when it is seen that another one has the lease. It returns nil when its own context
// ends, and an error if the lease is lost or leading fails. A bridge that has led hands
// the lease over once its leading has ended.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	electing, stop := context.WithCancel(ctx)
	defer stop()
	waiting, elected := context.WithCancel(electing)
	defer elected()
	if err := e.release(ctx, e.isGone); err != nil {
		e.Log.WarnContext(ctx, "looking after the lease failed, will be tried again", "error", err)
	}
	go e.follow(waiting)
	// A term begins once or never; the elector calls back in goroutines of their own.
	var term sync.Once
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock{
			Interface: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
				Client:    e.Leases, LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity()},
			},
			seen: func(holder string) {
				hasLed := waiting.Err() != nil
				if hasLed && holder != "" && holder != e.identity() {
					stop() // the elector itself would go on until the renewDeadline
				}
			},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, Name: e.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer stop()
				elected()
				term.Do(func() {
					e.Log.InfoContext(ctx, "elected", "lease", e.Name)
					ended <- lead(ctx)
				})
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(holder string) {
				e.holder.Store(&holder)
				if holder != e.identity() {
					e.Log.InfoContext(ctx, "another bridge is elected", "holder", holder)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election: %w", err)
	}
	elector.Run(electing)
	stop()
	term.Do(func() { ended <- nil }) // it never began, or its end is waited for
	if err := <-ended; err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errLeaseLost
	}
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	isOurs := func(_ context.Context, pod string) (bool, error) { return pod == e.PodName, nil }
	if err := e.release(releasing, isOurs); err != nil {
		e.Log.WarnContext(releasing, "the lease could not be handed over; another bridge follows when this pod is gone", "error", err)
	}
	return nil
}

// lock tells who is seen to hold the lease each time that it is read: by a holder, each time that it could not be
// renewed at once.
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

// follow releases the lease once its holder is gone, until the context ends.
func (e *Election) follow(ctx context.Context) {
	// Its error is only that the context ended.
	_ = wait.PollUntilContextCancel(ctx, gonePeriod, false, func(ctx context.Context) (bool, error) {
		if err := e.release(ctx, e.isGone); err != nil && ctx.Err() == nil {
			e.Log.DebugContext(ctx, "looking after the lease failed, will be tried again", "error", err)
		}
		return false, nil
	})
}

// isGone says whether another bridge's pod does not exist any more: one that was killed
// is followed at once, and not only when its lease expires.
func (e *Election) isGone(ctx context.Context, pod string) (bool, error) {
	if pod == e.PodName {
		return false, nil
	}
	_, err := e.Pods.Pods(e.Namespace).Get(ctx, pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// release takes the lease from its holder, if that pod has done with it.
func (e *Election) release(ctx context.Context, hasDone func(ctx context.Context, pod string) (bool, error)) error {
	leases := e.Leases.Leases(e.Namespace)
	lease, err := leases.Get(ctx, e.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Lease %s: %w", e.Name, err)
	}
	pod, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	if done, err := hasDone(ctx, pod); err != nil || !done {
		return err
	}
	lease.Spec.HolderIdentity = nil
	// The update fails if another bridge was faster.
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("releasing Lease %s: %w", e.Name, err)
	}
	e.Log.InfoContext(ctx, "the lease is released", "holder", pod)
	return nil
}
