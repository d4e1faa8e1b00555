//go:build e2e

package e2e

import (
	"testing"

	"github.com/job-executor/job-executor/test/conformance"
	"github.com/job-executor/job-executor/test/system"
)

// test/embedded must behave like Kubernetes and Knative.
func TestConformance(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	broker, err := installed.InstallConformance(t.Context())
	must(t, err)
	broker.IsDurable = brokerIs("natss")
	t.Run("Broker", func(t *testing.T) { conformance.TestBroker(t, broker) })
	t.Run("Jobs", func(t *testing.T) { conformance.TestJobs(t, installed.Kubernetes, system.ConformanceNamespace) })
}
