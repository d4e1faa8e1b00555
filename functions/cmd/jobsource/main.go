// Command jobsource sends the completions of Jobs to the Broker.
package main

import (
	"context"
	"net/http"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/election"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobsource"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/functions/telemetry/prometheus"
)

func main() {
	prometheus.Main("jobsource", func(_ context.Context, configuration jobsource.Configuration, signals *telemetry.Signals) (function.Program, error) {
		klog.SetSlogLogger(signals.Log)
		client, err := cluster.Connect(0)
		if err != nil {
			return function.Program{}, err
		}
		config, err := cluster.Config(cluster.CallTimeout)
		if err != nil {
			return function.Program{}, err
		}
		clients, err := kubernetes.NewForConfig(config)
		if err != nil {
			return function.Program{}, err
		}
		return jobsource.New(configuration, jobsource.Dependencies{
			Kubernetes: client, Transport: http.DefaultTransport,
			Elector:   &election.Election{Leases: clients.CoordinationV1(), Pods: clients.CoreV1(), Pod: configuration.Pod, Lease: jobsource.Lease, Log: signals.Log},
			Telemetry: signals, Now: time.Now,
		})
	})
}
