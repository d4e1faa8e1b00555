package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/function"
)

// jobSink measures how fast Knative's JobSink creates Jobs for events that it receives directly.
func (b *bench) jobSink(ctx context.Context, count int) (err error) {
	remove, err := b.installed.InstallJobSink(ctx)
	if remove != nil {
		defer func() { err = errors.Join(err, remove(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return err
	}
	if err := b.installed.Apply(ctx, "test/bench/cluster/jobsink.yaml"); err != nil {
		return err
	}
	if err := b.installed.AwaitReady(ctx, "bench", "jobsinks"); err != nil {
		return err
	}
	address, err := b.installed.ServiceAddress(ctx, "knative-eventing", "job-sink")
	if err != nil {
		return err
	}
	sender := &function.Sender{URL: "http://" + address + "/bench/peer", HTTP: http.DefaultClient}
	began := time.Now()
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for range count {
		group.Go(func() error { return sender.Send(sending, newEvent("job")) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	jobs := b.installed.Kubernetes.BatchV1().Jobs("bench")
	there, err := jobs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list JobSink's Jobs: %w", err)
	}
	if len(there.Items) != count {
		return fmt.Errorf("of %d events JobSink has made %d Jobs", count, len(there.Items))
	}
	b.report.add(peer, perSecond, "", float64(count)/time.Since(began).Seconds())
	return b.deleteJobs(ctx, "bench", "")
}
