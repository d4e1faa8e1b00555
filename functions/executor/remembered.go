package executor

import (
	"context"
	"sync"
	"time"

	"github.com/job-executor/job-executor/functions/executor/plan"
)

const (
	// rememberedFor is how long a Secret or service account is not read again. Many concurrent tasks use the
	// same ones.
	rememberedFor = 3 * time.Second
	// listedFor is the same for a service account that is allowed by its name: only its deletion matters, which
	// Kubernetes reports when it creates the pod.
	listedFor = time.Minute
	// maxRemembered bounds the number of remembered objects.
	maxRemembered = 1000
)

// RememberingCluster is a plan.Cluster that reads the same Secret or service account once in a few
// seconds, or once a minute for a service account that is allowed by its name. It does not remember missing or
// disallowed objects: somebody may be about to create or label them.
type RememberingCluster struct {
	plan.Cluster
	// Allowed reports whether an object may be remembered, by name and labels.
	Allowed func(name string, labels map[string]string) bool
	// Listed reports whether a service account is allowed by its name.
	Listed func(account string) bool
	Now    func() time.Time

	mutex sync.Mutex
	known map[objectKey]known
}

type objectKey struct{ kind, namespace, name string }

const (
	secretKind  = "Secret"
	accountKind = "ServiceAccount"
)

type known struct {
	object *plan.Object
	until  time.Time
}

// Secret implements plan.Cluster.
func (r *RememberingCluster) Secret(ctx context.Context, namespace, name string) (*plan.Object, error) {
	return r.recall(ctx, objectKey{secretKind, namespace, name}, r.Cluster.Secret)
}

// ServiceAccount implements plan.Cluster.
func (r *RememberingCluster) ServiceAccount(ctx context.Context, namespace, name string) (*plan.Object, error) {
	return r.recall(ctx, objectKey{accountKind, namespace, name}, r.Cluster.ServiceAccount)
}

func (r *RememberingCluster) recall(
	ctx context.Context, which objectKey, read func(ctx context.Context, namespace, name string) (*plan.Object, error),
) (*plan.Object, error) {
	r.mutex.Lock()
	found, ok := r.known[which]
	r.mutex.Unlock()
	if ok && r.Now().Before(found.until) {
		return found.object, nil
	}
	object, err := read(ctx, which.namespace, which.name)
	if err != nil || object == nil || !r.Allowed(which.name, object.Labels) {
		return object, err
	}
	lifetime := rememberedFor
	if which.kind == accountKind && r.Listed(which.name) {
		lifetime = listedFor
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.known == nil || len(r.known) >= maxRemembered {
		r.known = map[objectKey]known{}
	}
	r.known[which] = known{object, r.Now().Add(lifetime)}
	return object, nil
}
