package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// moments has the time of each observation, by the Keptn context of the sequence.
type moments struct {
	mutex sync.Mutex
	seen  map[moment]time.Time
}

type moment struct{ keptnContext, what string }

// The observations: Keptn's events of a task on its stream, and the states of Jobs.
const (
	triggered = "triggered"
	started   = "started"
	finished  = "finished"
	created   = "a Job is created"
	running   = "a pod is ready"
	completed = "a Job has completed"
)

func (m *moments) note(keptnContext, what string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	key := moment{keptnContext, what}
	if _, ok := m.seen[key]; !ok {
		m.seen[key] = time.Now()
	}
}

// at returns the time of an observation of a sequence; zero if there is none.
func (m *moments) at(keptnContext, what string) time.Time {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.seen[moment{keptnContext, what}]
}

// await waits until all sequences have an observation.
func (m *moments) await(ctx context.Context, limit time.Duration, keptnContexts []string, what string) error {
	return console.Eventually(ctx, limit, func(context.Context) error {
		missing := 0
		for _, keptnContext := range keptnContexts {
			if m.at(keptnContext, what).IsZero() {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("of %d sequences %d are without %q", len(keptnContexts), missing, what)
		}
		return nil
	})
}

// milliseconds returns the time between two observations of each sequence.
func (m *moments) milliseconds(keptnContexts []string, from, to string) (values []float64) {
	for _, keptnContext := range keptnContexts {
		values = append(values, inMilliseconds(m.at(keptnContext, to).Sub(m.at(keptnContext, from))))
	}
	return values
}

// last returns when an observation was made for the last time among sequences, and first for the first time.
func (m *moments) last(keptnContexts []string, what string) (last time.Time) {
	for _, keptnContext := range keptnContexts {
		if at := m.at(keptnContext, what); at.After(last) {
			last = at
		}
	}
	return last
}

func (m *moments) first(keptnContexts []string, what string) (first time.Time) {
	for _, keptnContext := range keptnContexts {
		if at := m.at(keptnContext, what); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// watchAll records observations until the context ends.
func watchAll(ctx context.Context, installed *system.Installation) (*moments, error) {
	seen := &moments{seen: map[moment]time.Time{}}
	address, err := installed.ServiceAddress(ctx, "keptn", "keptn-nats")
	if err != nil {
		return nil, err
	}
	connection, err := nats.Connect("nats://" + address + ":4222")
	if err != nil {
		return nil, fmt.Errorf("connect to Keptn's NATS: %w", err)
	}
	context.AfterFunc(ctx, connection.Close)
	if _, err := connection.Subscribe("sh.keptn.event.*.*", func(message *nats.Msg) {
		var event struct {
			Context string `json:"shkeptncontext"`
		}
		if json.Unmarshal(message.Data, &event) == nil {
			seen.note(event.Context, message.Subject[strings.LastIndex(message.Subject, ".")+1:])
		}
	}); err != nil {
		return nil, fmt.Errorf("subscribe to Keptn's events: %w", err)
	}
	if err := connection.FlushTimeout(stepLimit); err != nil {
		return nil, fmt.Errorf("subscribe to Keptn's events: %w", err)
	}
	// An informer lists again after an interrupted watch.
	factory := informers.NewSharedInformerFactoryWithOptions(installed.Kubernetes, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = run.ContextLabel }))
	look := func(object any) {
		if job, ok := object.(*batchv1.Job); ok {
			seen.note(job.Labels[run.ContextLabel], created)
			if job.Status.Ready != nil && *job.Status.Ready > 0 {
				seen.note(job.Labels[run.ContextLabel], running)
			}
			if run.PhaseOf(job) == run.Succeeded {
				seen.note(job.Labels[run.ContextLabel], completed)
			}
		}
	}
	informer := factory.Batch().V1().Jobs().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, job any) { look(job) }}); err != nil {
		return nil, fmt.Errorf("watch Jobs: %w", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return seen, nil
}
