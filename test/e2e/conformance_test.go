//go:build e2e

package e2e

import (
	"testing"

	"github.com/job-executor/job-executor/test/conformance"
	"github.com/job-executor/job-executor/test/system"
)

// What test/embedded does is right if it is what Knative does.
func TestBrokerConforms(t *testing.T) {
	t.Parallel()
	broker, err := connect(t).InstallConformance(t.Context())
	must(t, err)
	conformance.TestBroker(t, broker)
}

func TestJobsConform(t *testing.T) {
	t.Parallel()
	conformance.TestJobs(t, connect(t).Kubernetes, system.JobsNamespace)
}
