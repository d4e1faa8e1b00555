package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/job-executor/job-executor/functions/function"
)

const (
	// leaseDuration is after what time another bridge takes the place of one that no
	// longer renews the lease, and is still there; that one has stopped by itself at the
	// renewDeadline. It is longer than an API server is away that is restarted. One whose
	// pod is gone is followed within a second or two.
	leaseDuration = 60 * time.Second
	renewDeadline = 50 * time.Second
	// retryPeriod is the time between two looks at the lease; it bounds how long a
	// bridge goes on whose lease was taken away.
	retryPeriod = 500 * time.Millisecond
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

// NewElection returns the election of the configuration's Lease.
func NewElection(configuration Configuration, leases coordinationclient.LeasesGetter, pods coreclient.PodsGetter, log *slog.Logger) *Election {
	return &Election{
		Leases: leases, Pods: pods, Namespace: configuration.Namespace, Name: configuration.Lease,
		PodName: configuration.PodName, PodIP: configuration.PodIP, Port: configuration.Port, Log: log,
	}
}

// identity is the pod's name and address, as the Lease has it.
func (election *Election) identity() string {
	return election.PodName + "_" + net.JoinHostPort(election.PodIP, strconv.Itoa(election.Port))
}

// Holder is the address of the bridge that holds the lease, empty if none is known.
func (election *Election) Holder() string {
	holder := election.holder.Load()
	if holder == nil {
		return ""
	}
	_, address, _ := strings.Cut(*holder, "_")
	return address
}

// Run waits until this bridge is elected and then leads, with a context that ends
// within a second after the lease is lost. It returns nil when its own context
// ends, and an error if the lease is lost or leading fails.
func (election *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	electing, stop := context.WithCancel(ctx)
	defer stop()
	waiting, elected := context.WithCancel(electing)
	defer elected()
	if err := election.releaseIfGone(ctx); err != nil {
		election.Log.WarnContext(ctx, "looking after the lease failed, will be tried again", "error", err)
	}
	go election.follow(waiting)
	term := &term{ended: make(chan error, 1)}
	var elector *leaderelection.LeaderElector
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: election.Namespace, Name: election.Name},
			Client:    election.Leases, LockConfig: resourcelock.ResourceLockConfig{Identity: election.identity()},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, Name: election.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer stop()
				elected()
				if term.begin() {
					election.Log.InfoContext(ctx, "elected", "lease", election.Name)
					go election.guard(ctx, elector, stop)
					term.ended <- lead(ctx)
				}
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(holder string) {
				election.holder.Store(&holder)
				if holder != election.identity() {
					election.Log.InfoContext(ctx, "another bridge is elected", "holder", holder)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election: %w", err)
	}
	elector.Run(electing)
	stop()
	if term.close() {
		if err := <-term.ended; err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errLeaseLost
}

// guard stops a bridge whose lease another one has: the elector itself would go on
// until the renewDeadline.
func (election *Election) guard(ctx context.Context, elector *leaderelection.LeaderElector, stop func()) {
	// Its error is only that the context ended.
	_ = wait.PollUntilContextCancel(ctx, retryPeriod/2, false, func(context.Context) (bool, error) {
		if elector.IsLeader() {
			return false, nil
		}
		stop()
		return true, nil
	})
}

// term is the time for which a bridge leads: it begins once or never. The elector
// calls back in goroutines of their own.
type term struct {
	mutex         sync.Mutex
	begun, closed bool
	ended         chan error
}

func (term *term) begin() bool {
	term.mutex.Lock()
	defer term.mutex.Unlock()
	term.begun = !term.closed
	return term.begun
}

// close has no term begin any more, and says whether one has.
func (term *term) close() bool {
	term.mutex.Lock()
	defer term.mutex.Unlock()
	term.closed = true
	return term.begun
}

// follow releases the lease once its holder is gone, until the context ends.
func (election *Election) follow(ctx context.Context) {
	// Its error is only that the context ended.
	_ = wait.PollUntilContextCancel(ctx, gonePeriod, false, func(ctx context.Context) (bool, error) {
		if err := election.releaseIfGone(ctx); err != nil && ctx.Err() == nil {
			election.Log.DebugContext(ctx, "looking after the lease failed, will be tried again", "error", err)
		}
		return false, nil
	})
}

// releaseIfGone takes the lease from a pod that does not exist any more, so that a
// bridge which was killed is followed at once and not only when its lease expires.
func (election *Election) releaseIfGone(ctx context.Context) error {
	leases := election.Leases.Leases(election.Namespace)
	lease, err := leases.Get(ctx, election.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Lease %s: %w", election.Name, err)
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	if name == election.PodName {
		return nil
	}
	_, err = election.Pods.Pods(election.Namespace).Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	lease.Spec.HolderIdentity = nil
	// The update fails if another bridge was faster.
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("releasing Lease %s: %w", election.Name, err)
	}
	election.Log.InfoContext(ctx, "the lease's holder is gone", "holder", name)
	return nil
}

// Gate lets events through to handlers while this bridge is elected, and to the
// elected bridge while it is not: what was delivered is remembered in one place.
type Gate struct {
	// Holder is the address of the elected bridge, empty if it is not known.
	Holder func() string
	HTTP   *http.Client

	leading atomic.Pointer[context.Context]
}

// Open lets events through until the context ends.
func (gate *Gate) Open(ctx context.Context) { gate.leading.Store(&ctx) }

// Handler is a handler behind the gate, for events that come to a path. Its context
// ends when this bridge is no longer elected.
func (gate *Gate) Handler(path string, handle function.Handler) function.Handler {
	return func(ctx context.Context, received event.Event) (*event.Event, error) {
		leading := gate.leading.Load()
		if leading == nil || (*leading).Err() != nil {
			return gate.forward(ctx, path, received)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(*leading, cancel) //nolint:contextcheck // it is that of the term
		defer stop()
		return handle(ctx, received)
	}
}

// forwardedExtension marks an event that another bridge has forwarded: it goes no
// further.
const forwardedExtension = "jobexecutorforwarded"

func (gate *Gate) forward(ctx context.Context, path string, received event.Event) (*event.Event, error) {
	holder := gate.Holder()
	if _, forwarded := received.Extensions()[forwardedExtension]; forwarded || holder == "" {
		return nil, errors.New("no bridge is elected at the moment")
	}
	outgoing := received.Clone()
	outgoing.SetExtension(forwardedExtension, true)
	return (&function.Sender{URL: "http://" + holder + path, HTTP: gate.HTTP}).Request(ctx, outgoing)
}
