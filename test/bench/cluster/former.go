package main

import (
	"context"
	"fmt"
	"time"

	"github.com/job-executor/job-executor/test/console"
)

const (
	// formerName is the peer that Job Executor replaces. It is a stand-in: see test/jes.
	formerName      = "job-executor-service"
	formerNamespace = "jes"
	formerTask      = "peer"
	formerManifests = "test/jes/jes.yaml"
	formerWarm      = 5
)

// former installs the stand-in for the job-executor-service, with a task type and a project of its own. It returns a bench for
// those.
func (b *bench) former(ctx context.Context) (former *bench, remove func(context.Context) error, err error) {
	remove = func(ctx context.Context) error { return b.installed.Remove(ctx, formerManifests) }
	if err := b.installed.BuildAndApply(ctx, formerManifests); err != nil {
		return nil, remove, err
	}
	if err := b.configureFormer(ctx, "PUBSUB_TOPIC=sh.keptn.event."+formerTask+".triggered"); err != nil {
		return nil, remove, err
	}
	project := fmt.Sprintf("former-%d", time.Now().Unix())
	if err := b.installed.CreateProject(ctx, project, console.Shipyard(stage, formerTask), "service-0", []string{stage}, files()); err != nil {
		return nil, remove, err
	}
	return &bench{
		installed: b.installed, moments: b.moments, report: b.report, project: project, services: 1,
		namespace: formerNamespace, selector: "app.kubernetes.io/managed-by=" + formerName,
	}, remove, nil
}

// configureFormer sets a variable and waits for the new pod.
func (b *bench) configureFormer(ctx context.Context, variable string) error {
	return b.installed.Run(ctx, fmt.Sprintf("kubectl set env --namespace %[1]s deployment/%[2]s %[3]s\nkubectl rollout status --namespace %[1]s deployment/%[2]s --timeout=180s",
		formerNamespace, formerName, variable))
}

// formerLatencies runs tasks one after the other, and then lets no further Job start.
func (b *bench) formerLatencies(ctx context.Context) error {
	var contexts []string
	for range formerWarm {
		one, err := b.sequences(ctx, 1)
		if err != nil {
			return err
		}
		contexts = append(contexts, one...)
	}
	b.report.add(formerName+": triggered to started, warm", "ms", helloWarm, b.moments.milliseconds(contexts, triggered, started)...)
	b.report.add(formerName+": completed to finished, warm", "ms", helloWarm, b.moments.milliseconds(contexts, completed, finished)...)
	return b.configureFormer(ctx, "SUSPEND_JOBS=true")
}
