package cluster

import (
	"fmt"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// clientQPS and clientBurst are raised since client-go's five requests a
	// second would be the bottleneck of everything.
	clientQPS   = 200
	clientBurst = 400
)

// CallTimeout bounds one call of the Kubernetes API, for clients that do not watch.
const CallTimeout = 30 * time.Second

// Config is how a pod reaches its cluster's API. Timeout bounds each call; 0 is none.
func Config(timeout time.Duration) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("not in a Kubernetes pod: %w", err)
	}
	config.QPS, config.Burst, config.UserAgent, config.Timeout = clientQPS, clientBurst, "job-executor", timeout
	return config, nil
}
