package cluster

import (
	"fmt"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// client-go's default of five requests per second would limit everything.
	clientQPS   = 200
	clientBurst = 400
)

// CallTimeout bounds one call of the Kubernetes API, for clients that do not watch.
const CallTimeout = 30 * time.Second

// Config returns the configuration of this pod's cluster. The timeout bounds each call; 0 is unlimited.
func Config(timeout time.Duration) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("not in a Kubernetes pod: %w", err)
	}
	config.QPS, config.Burst, config.UserAgent, config.Timeout = clientQPS, clientBurst, "job-executor", timeout
	return config, nil
}
