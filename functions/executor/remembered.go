package executor

import (
	"context"
	"sync"
	"time"

	"github.com/job-executor/job-executor/functions/executor/plan"
)

const (
	// rememberedFor is for how long what tasks name is not read again: many tasks that come
	// at once name the same.
	rememberedFor = 3 * time.Second
	// maxRemembered bounds how many are remembered.
	maxRemembered = 1000
)

// RememberingCluster is a plan.Cluster that reads the same Secret or service account once in a few
// seconds. It does not remember missing or disallowed objects: somebody may be about to create or
// label them.
type RememberingCluster struct {
	plan.Cluster
	// Allowed says what is remembered, by its name and labels; nil is all.
	Allowed func(name string, labels map[string]string) bool
	// Now is the time by which it forgets.
	Now func() time.Time

	mutex sync.Mutex
	known map[named]known
}

type named struct{ kind, namespace, name string }

type known struct {
	object *plan.Object
	at     time.Time
}

// Secret returns what a Secret has, nil if there is none.
func (r *RememberingCluster) Secret(ctx context.Context, namespace, name string) (*plan.Object, error) {
	return r.recall(ctx, named{"Secret", namespace, name}, r.Cluster.Secret)
}

// ServiceAccount returns what a service account has, nil if there is none.
func (r *RememberingCluster) ServiceAccount(ctx context.Context, namespace, name string) (*plan.Object, error) {
	return r.recall(ctx, named{"ServiceAccount", namespace, name}, r.Cluster.ServiceAccount)
}

func (r *RememberingCluster) recall(
	ctx context.Context, which named, read func(ctx context.Context, namespace, name string) (*plan.Object, error),
) (*plan.Object, error) {
	r.mutex.Lock()
	found, ok := r.known[which]
	r.mutex.Unlock()
	if ok && r.Now().Sub(found.at) < rememberedFor {
		return found.object, nil
	}
	object, err := read(ctx, which.namespace, which.name)
	if err != nil || object == nil || r.Allowed != nil && !r.Allowed(which.name, object.Labels) {
		return object, err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.known == nil || len(r.known) >= maxRemembered {
		r.known = map[named]known{}
	}
	r.known[which] = known{object, r.Now()}
	return object, nil
}
