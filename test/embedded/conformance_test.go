package embedded

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/job-executor/job-executor/test/conformance"
)

func TestBrokerConformsToKnative(t *testing.T) {
	manifests, err := ReadManifests("../conformance")
	if err != nil {
		t.Fatal(err)
	}
	const address = "http://broker/conformance/conformance"
	network, subscriber := NewNetwork(), conformance.NewSubscriber()
	broker, err := NewBroker(address, manifests.Triggers, network)
	if err != nil {
		t.Fatal(err)
	}
	network.Handle("broker", broker)
	network.Handle("subscriber.conformance.svc.cluster.local", subscriber)
	conformance.TestBroker(t, conformance.Broker{
		HTTP: &http.Client{Transport: network}, URL: address, SubscriberURL: "http://subscriber.conformance.svc.cluster.local",
	})
}

func TestJobsConformToKubernetes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cluster, err := NewKubernetes(KubernetesOptions{Context: ctx, Runtime: &Processes{}, Directory: t.TempDir(), NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cluster.Wait()
	})
	conformance.TestJobs(t, cluster.Client(nil), "jobs")
}
