package cluster

import (
	"fmt"
	"time"

	batchclient "k8s.io/client-go/kubernetes/typed/batch/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const (
	// clientQPS and clientBurst are raised since client-go's five requests a
	// second would be the bottleneck of everything.
	clientQPS   = 200
	clientBurst = 400
	// callTimeout bounds one call of the Kubernetes API; a watch is none.
	callTimeout = 30 * time.Second
)

// Config is how a pod reaches its cluster's API.
func Config(wrap transport.WrapperFunc) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("not in a Kubernetes pod: %w", err)
	}
	config.QPS, config.Burst, config.UserAgent = clientQPS, clientBurst, "job-executor"
	config.Wrap(wrap)
	return config, nil
}

// BoundCalls gives every call of the API a time limit. It is not for clients
// that watch.
func BoundCalls(config *rest.Config) *rest.Config {
	config.Timeout = callTimeout
	return config
}

// Clients are the typed clients that functions need which start from zero; each
// call has a time limit.
type Clients struct {
	Batch batchclient.BatchV1Interface
	Core  coreclient.CoreV1Interface
}

// Connect returns clients for the cluster that this pod is in.
func Connect(wrap transport.WrapperFunc) (Clients, error) {
	config, err := Config(wrap)
	if err != nil {
		return Clients{}, err
	}
	batch, err := batchclient.NewForConfig(BoundCalls(config))
	if err != nil {
		return Clients{}, fmt.Errorf("making a client for Jobs: %w", err)
	}
	core, err := coreclient.NewForConfig(BoundCalls(config))
	if err != nil {
		return Clients{}, fmt.Errorf("making a client for pods: %w", err)
	}
	return Clients{Batch: batch, Core: core}, nil
}
