package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/job-executor/job-executor/test/console"
)

const (
	// formerName is the service that Job Executor replaces. A stand-in plays it: see test/jes.
	formerName      = "job-executor-service"
	formerNamespace = "jes"
	formerTask      = "peer"
	formerManifests = "test/jes/jes.yaml"
	formerWarm      = 5
	// formerPage is how many waiting events the stand-in sees: its library lists pages of 20, and Keptn 1.4.5 repeats the first one
	// (recording 47-paging).
	formerPage = 20
)

// former installs the stand-in for job-executor-service. It returns a bench with a task type and a project for the
// stand-in.
func (b *bench) former(ctx context.Context) (former *bench, remove func(context.Context) error, err error) {
	remove = func(ctx context.Context) error {
		return errors.Join(b.installed.Remove(ctx, formerManifests), b.installed.Unregister(ctx, formerName))
	}
	if err := b.installed.Unregister(ctx, formerName); err != nil {
		return nil, remove, err
	}
	if err := b.installed.Run(ctx, fmt.Sprintf("ko resolve --sbom=none -f %s | sed s/event.%s.triggered/event.%s.triggered/ | kubectl apply -f -",
		formerManifests, task, formerTask)); err != nil {
		return nil, remove, err
	}
	if err := b.awaitFormer(ctx); err != nil {
		return nil, remove, err
	}
	project := fmt.Sprintf("former-%d", time.Now().Unix())
	if err := b.installed.CreateProject(ctx, project, console.Shipyard(stage, formerTask), "service-0", []string{stage}, files()); err != nil {
		return nil, remove, err
	}
	return &bench{
		installed: b.installed, moments: b.moments, report: b.report, project: project, services: 1,
		functions: formerNamespace, namespace: formerNamespace, selector: "app.kubernetes.io/managed-by=" + formerName,
	}, remove, nil
}

// awaitFormer waits for the new pod of the stand-in.
func (b *bench) awaitFormer(ctx context.Context) error {
	return b.installed.Run(ctx, fmt.Sprintf("kubectl rollout status --namespace %s deployment/%s --timeout=180s", formerNamespace, formerName))
}

// formerLatencies runs tasks one after the other. Afterwards no further Job starts.
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
	if err := b.installed.Run(ctx, fmt.Sprintf("kubectl set env --namespace %s deployment/%s SUSPEND_JOBS=true", formerNamespace, formerName)); err != nil {
		return err
	}
	return b.awaitFormer(ctx)
}
