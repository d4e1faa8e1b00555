package bridge

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Registry is Keptn's list of integrations.
type Registry interface {
	Register(ctx context.Context, integration models.Integration) (string, error)
	Ping(ctx context.Context, id string) (models.Integration, error)
}

// Subscriptions are the event types that this integration is subscribed to, as
// Keptn has them now.
type Subscriptions struct {
	registry    Registry
	integration models.Integration
	interval    time.Duration
	log         *slog.Logger

	// changed has room for one notice that the subscriptions are others now.
	changed chan struct{}

	mutex   sync.RWMutex
	current []models.EventSubscription
}

// NewSubscriptions returns those of the integration, until Run has heard
// Keptn's.
func NewSubscriptions(registry Registry, integration models.Integration, interval time.Duration, log *slog.Logger) *Subscriptions {
	return &Subscriptions{
		registry: registry, integration: integration, interval: interval, log: log,
		changed: make(chan struct{}, 1), current: integration.Subscriptions,
	}
}

// Run registers the integration, pings, takes over what subscriptions Keptn has,
// and registers again when Keptn has forgotten it, until the context ends.
func (subscriptions *Subscriptions) Run(ctx context.Context) error {
	ticker := time.NewTicker(subscriptions.interval)
	defer ticker.Stop()
	var id string
	for {
		id = subscriptions.refresh(ctx, id)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// refresh returns the integration's id, empty if it has to be registered (again).
func (subscriptions *Subscriptions) refresh(ctx context.Context, id string) string {
	if id == "" {
		registered, err := subscriptions.registry.Register(ctx, subscriptions.integration)
		if err != nil {
			subscriptions.log.WarnContext(ctx, "registering with Keptn failed, will be tried again", "error", err)
			return ""
		}
		id = registered
		subscriptions.log.InfoContext(ctx, "registered with Keptn", "integration", id)
	}
	integration, err := subscriptions.registry.Ping(ctx, id)
	switch {
	case keptn.IsNotFound(err):
		return ""
	case err != nil:
		subscriptions.log.WarnContext(ctx, "pinging Keptn failed, will be tried again", "error", err)
		return id
	}
	subscriptions.mutex.Lock()
	defer subscriptions.mutex.Unlock()
	if !reflect.DeepEqual(subscriptions.current, integration.Subscriptions) {
		subscriptions.current = integration.Subscriptions
		select {
		case subscriptions.changed <- struct{}{}:
		default:
		}
	}
	return id
}

// Changed gives a notice after the subscriptions changed: what is open of a type
// that was added may have been triggered before.
func (subscriptions *Subscriptions) Changed() <-chan struct{} { return subscriptions.changed }

// Types returns the exact event types that are subscribed to, without repetition.
func (subscriptions *Subscriptions) Types() []string {
	subscriptions.mutex.RLock()
	defer subscriptions.mutex.RUnlock()
	var types []string
	for _, subscription := range subscriptions.current {
		if !strings.ContainsAny(subscription.Event, "*>") && !slices.Contains(types, subscription.Event) {
			types = append(types, subscription.Event)
		}
	}
	return types
}

// Match says whether any subscription wants a task's events: its type matches,
// and each filter that is not empty names the task's project, stage or service.
func (subscriptions *Subscriptions) Match(eventType string, task keptn.Task) bool {
	subscriptions.mutex.RLock()
	defer subscriptions.mutex.RUnlock()
	return slices.ContainsFunc(subscriptions.current, func(subscription models.EventSubscription) bool {
		filter := subscription.Filter
		return subjectMatches(subscription.Event, eventType) &&
			named(filter.Projects, task.Project) && named(filter.Stages, task.Stage) && named(filter.Services, task.Service)
	})
}

func named(names []string, name string) bool {
	return len(names) == 0 || slices.Contains(names, name)
}

// subjectMatches matches as NATS does: * is one token, > is all that follow.
func subjectMatches(pattern, subject string) bool {
	patternTokens, tokens := strings.Split(pattern, "."), strings.Split(subject, ".")
	for index, token := range patternTokens {
		if token == ">" {
			return index < len(tokens)
		}
		if index >= len(tokens) || (token != "*" && token != tokens[index]) {
			return false
		}
	}
	return len(patternTokens) == len(tokens)
}
