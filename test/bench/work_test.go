package bench

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/embedded"
	"github.com/job-executor/job-executor/test/fixture"
)

// everything is a cluster with every object that a task may name.
type everything struct{}

func (everything) Secret(context.Context, string, string) (*plan.Object, error) {
	return &plan.Object{Labels: embedded.AllowedLabels(), Keys: []string{"key"}}, nil
}

func (everything) ServiceAccount(context.Context, string, string) (*plan.Object, error) {
	return &plan.Object{Labels: embedded.AllowedLabels()}, nil
}

func (everything) RefusesPod(context.Context, string, *corev1.PodSpec) (string, error) {
	return "", nil
}

// BenchmarkWork measures the functions' own work for each event, without requests.
func BenchmarkWork(b *testing.B) {
	content, err := os.ReadFile("../demo/project/job/config.yaml")
	if err != nil {
		b.Fatal(err)
	}
	rules, err := function.Configure[plan.Rules](map[string]string{
		"JOB_NAMESPACES": "jobs", "FETCHER_IMAGE": "fetcher", "BRIDGE_URL": "http://bridge",
	})
	if err != nil {
		b.Fatal(err)
	}
	config := jobconfig.Parse(content)
	envelope := jobconfig.Envelope{"type": "sh.keptn.event.test.triggered", "data": map[string]any{
		"project": "p", "stage": "s", "service": "v", "deployment": map[string]any{"deploymentURIsLocal": []any{"http://shop"}},
	}}
	actions := config.Match(envelope)
	if len(actions) == 0 {
		b.Fatal("no action of the example matches")
	}
	cluster := embedded.Objects(embedded.Manifests{Settings: map[string]string{"JOB_NAMESPACES": "jobs", "JOB_SERVICE_ACCOUNT": "job"}})
	keys, err := signature.Make(b.Context(), clientset.Of(fake.NewClientset(cluster...)), "job-executor")
	if err != nil {
		b.Fatal(err)
	}
	party := &signature.Party{Keys: keys, Now: time.Now, Log: fixture.Discard}
	triggered := fixture.Triggered(fixture.Task)
	signed, err := party.Sign(triggered)
	if err != nil {
		b.Fatal(err)
	}
	subscriptions := intake.NewSubscriptions(nil, models.Integration{Subscriptions: []models.EventSubscription{
		{Event: "sh.keptn.event.deployment.triggered"},
		{Event: "sh.keptn.event.*.triggered", Filter: models.EventSubscriptionFilter{Projects: []string{"a", "b", "p"}}},
	}}, time.Minute, nil, fixture.Discard)
	log := []byte(strings.Repeat("a line of a log\n", 1<<16))
	for _, work := range []struct {
		name string
		do   func() error
	}{
		{"parse", func() error { jobconfig.Parse(content); return nil }},
		{"match", func() error { config.Match(envelope); return nil }},
		{"plan", func() error {
			_, err := plan.Plan{Rules: rules, Cluster: everything{}, Task: fixture.Task, Envelope: envelope, Log: fixture.Discard}.Run(b.Context(), config, actions)
			return err
		}},
		{"filter", func() error { subscriptions.Match(triggered.Type(), fixture.Task); return nil }},
		{"excerpt of 1 MiB", func() error {
			writer := excerpt.Writer{Limit: 32 << 10, Whole: "there"}
			_, err := io.Copy(&writer, io.LimitReader(bytes.NewReader(log), 1<<20)) // within the parts of a response's body
			return err
		}},
		{"sign", func() error { _, err := party.Sign(triggered); return err }},
		{"verify", func() error { _, err := party.Verify(signed); return err }},
	} {
		b.Run(work.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := work.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
