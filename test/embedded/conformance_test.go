package embedded

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"

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

// fateOf is the fate of pods that the conformance tests make.
func fateOf(job *batchv1.Job) Fate {
	switch spec := job.Spec.Template.Spec; {
	case spec.ServiceAccountName == conformance.MissingAccount:
		return Refused
	case len(spec.NodeSelector) > 0:
		return Unschedulable
	default:
		return Runs
	}
}

func TestJobsConformToKubernetes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cluster, err := NewKubernetes(KubernetesOptions{Context: ctx, Runtime: &Processes{}, Directory: t.TempDir(), NewID: uuid.NewString, Fate: fateOf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cluster.Wait()
	})
	conformance.TestJobs(t, cluster.Client(nil), "jobs")
}
