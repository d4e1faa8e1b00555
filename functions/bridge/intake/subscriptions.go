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

// Subscriptions are the integration's current subscriptions in Keptn. Safe for concurrent use.
type Subscriptions struct {
	registry    Registry
	integration models.Integration
	interval    time.Duration
	uninstalled func(ctx context.Context) bool
	log         *slog.Logger
	// Registered is called after each registration. It may be nil.
	Registered func(ctx context.Context, types []string)

	mutex   sync.RWMutex
	id      string
	current []models.EventSubscription
	// changed is closed when the subscriptions change.
	changed chan struct{}
}

// NewSubscriptions returns the integration's own subscriptions, until Run gets Keptn's. At its end, Run
// unregisters if uninstalled returns true; a nil uninstalled never does.
func NewSubscriptions(registry Registry, integration models.Integration, interval time.Duration, uninstalled func(context.Context) bool, log *slog.Logger) *Subscriptions {
	return &Subscriptions{
		registry: registry, integration: integration, interval: interval, uninstalled: uninstalled, log: log,
		changed: make(chan struct{}), current: integration.Subscriptions,
	}
}

// ID returns the integration's id, empty if it is not registered.
func (s *Subscriptions) ID() string {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return s.id
}

// leaveTimeout bounds unregistering.
const leaveTimeout = 5 * time.Second

// Run registers the integration, renews it and follows its subscriptions in Keptn until the context ends. It
// registers again if Keptn has forgotten the integration. At the end it unregisters an uninstalled integration,
// but not one that only restarts. The error is always nil.
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
	if id == "" || s.uninstalled == nil || !s.uninstalled(ctx) {
		return
	}
	if err := s.registry.Unregister(ctx, id); err != nil {
		s.log.WarnContext(ctx, "unregistering from Keptn failed; Keptn forgets the integration later", "error", err)
		return
	}
	s.log.InfoContext(ctx, "unregistered from Keptn: uninstalled", "integration", id)
}

// refresh registers the integration if necessary, and follows its subscriptions.
func (s *Subscriptions) refresh(ctx context.Context) {
	id := s.ID()
	if id == "" {
		registered, err := s.registry.Register(ctx, s.integration)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, api.ErrTokenRefused) {
				s.log.WarnContext(ctx, "registering with Keptn failed; retrying", "error", err)
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
			s.log.WarnContext(ctx, "renewing the registration with Keptn failed; retrying", "error", err)
		}
		return
	}
	s.id = id
	s.replace(integration.Subscriptions)
}

// replace requires the mutex.
func (s *Subscriptions) replace(current []models.EventSubscription) {
	if reflect.DeepEqual(s.current, current) {
		return
	}
	s.current = current
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of subscriptions. Events of a new type may
// already be open.
func (s *Subscriptions) Changed() <-chan struct{} {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return s.changed
}

// Types returns the subscribed event types, or NATS patterns of types, without duplicates.
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

// Wants reports whether any subscription matches a type.
func (s *Subscriptions) Wants(eventType string) bool {
	return slices.ContainsFunc(s.Types(), func(pattern string) bool { return subjectMatches(pattern, eventType) })
}

// Match reports whether any subscription matches a task's events: their type, and the project, stage and
// service of each non-empty filter.
func (s *Subscriptions) Match(eventType string, task keptn.Task) bool {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return slices.ContainsFunc(s.current, func(subscription models.EventSubscription) bool {
		filter := subscription.Filter
		return subjectMatches(subscription.Event, eventType) &&
			isListed(filter.Projects, task.Project) && isListed(filter.Stages, task.Stage) && isListed(filter.Services, task.Service)
	})
}

func isListed(names []string, name string) bool {
	return len(names) == 0 || slices.Contains(names, name)
}

// subjectMatches matches like NATS: * is one token, and > is all that follow.
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
