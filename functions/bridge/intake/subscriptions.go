package intake

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// Registry is Keptn's list of integrations.
type Registry interface {
	Register(ctx context.Context, integration models.Integration) (string, error)
	Ping(ctx context.Context, id string) (models.Integration, error)
	Unregister(ctx context.Context, id string) error
}

// Subscriptions are the event types that this integration is subscribed to, as
// Keptn has them now.
type Subscriptions struct {
	registry    Registry
	integration models.Integration
	interval    time.Duration
	uninstalled func(ctx context.Context) bool
	log         *slog.Logger
	// Registered, if it is set, is called each time that Keptn has registered the integration.
	Registered func(ctx context.Context, types []string)

	mutex   sync.RWMutex
	id      string
	current []models.EventSubscription
	// changed is closed when the subscriptions are others.
	changed chan struct{}
}

// NewSubscriptions returns those of the integration, until Run has heard Keptn's.
// Uninstalled is asked when Run ends whether that is for good.
func NewSubscriptions(registry Registry, integration models.Integration, interval time.Duration, uninstalled func(context.Context) bool, log *slog.Logger) *Subscriptions {
	return &Subscriptions{
		registry: registry, integration: integration, interval: interval, uninstalled: uninstalled, log: log,
		changed: make(chan struct{}), current: integration.Subscriptions,
	}
}

// ID is the integration's id, empty if it is not registered.
func (s *Subscriptions) ID() string {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return s.id
}

// leaveTimeout bounds the end of a registration.
const leaveTimeout = 5 * time.Second

// Run registers the integration, pings, takes over what subscriptions Keptn has,
// and registers again when Keptn has forgotten it, until the context ends. Then it
// unregisters an integration that was uninstalled; a restart is none.
func (s *Subscriptions) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		s.refresh(ctx)
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
			defer cancel()
			s.leave(ctx)
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Subscriptions) leave(ctx context.Context) {
	id := s.ID()
	if id == "" || !s.uninstalled(ctx) {
		return
	}
	if err := s.registry.Unregister(ctx, id); err != nil {
		s.log.WarnContext(ctx, "unregistering from Keptn failed; it forgets the integration by itself, some time", "error", err)
		return
	}
	s.log.InfoContext(ctx, "uninstalled, and so unregistered from Keptn", "integration", id)
}

// refresh registers the integration if need be, and takes over what Keptn has.
func (s *Subscriptions) refresh(ctx context.Context) {
	id := s.ID()
	if id == "" {
		registered, err := s.registry.Register(ctx, s.integration)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, api.ErrTokenRefused) {
				s.log.WarnContext(ctx, "registering with Keptn failed, will be tried again", "error", err)
			}
			return
		}
		id = registered
		s.log.InfoContext(ctx, "registered with Keptn", "integration", id, "subscriptions", s.Types())
		if s.Registered != nil {
			s.Registered(ctx, s.Types())
		}
	}
	integration, err := s.registry.Ping(ctx, id)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case api.IsNotFound(err):
		s.id = ""
		return
	case err != nil:
		s.id = id
		if ctx.Err() == nil && !errors.Is(err, api.ErrTokenRefused) {
			s.log.WarnContext(ctx, "pinging Keptn failed, will be tried again", "error", err)
		}
		return
	}
	s.id = id
	s.replace(integration.Subscriptions)
}

// replace has the mutex held.
func (s *Subscriptions) replace(current []models.EventSubscription) {
	if reflect.DeepEqual(s.current, current) {
		return
	}
	s.current = current
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed when the subscriptions change the next
// time: what is open of a type that was added may have been triggered before.
func (s *Subscriptions) Changed() <-chan struct{} {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return s.changed
}

// Types returns the event types that are subscribed to, as types or as patterns of
// NATS, without repetition.
func (s *Subscriptions) Types() []string {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	var types []string
	for _, subscription := range s.current {
		if !slices.Contains(types, subscription.Event) {
			types = append(types, subscription.Event)
		}
	}
	return types
}

// Wants says whether any subscription is for events of a type.
func (s *Subscriptions) Wants(eventType string) bool {
	return slices.ContainsFunc(s.Types(), func(pattern string) bool { return subjectMatches(pattern, eventType) })
}

// Match says whether any subscription wants a task's events: its type matches,
// and each filter that is not empty names the task's project, stage or service.
func (s *Subscriptions) Match(eventType string, task keptn.Task) bool {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return slices.ContainsFunc(s.current, func(subscription models.EventSubscription) bool {
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
