package intake

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

func subscribed(subscriptions ...models.EventSubscription) *Subscriptions {
	return NewSubscriptions(nil, models.Integration{Subscriptions: subscriptions}, time.Second, never, discard)
}

func to(eventType string) models.EventSubscription { return models.EventSubscription{Event: eventType} }

func TestSubscriptionsMatch(t *testing.T) {
	filtered := func(eventType string, projects, stages, services []string) models.EventSubscription {
		return models.EventSubscription{Event: eventType, Filter: models.EventSubscriptionFilter{Projects: projects, Stages: stages, Services: services}}
	}
	const exact = "sh.keptn.event.test.triggered"
	tests := []struct {
		name          string
		subscriptions []models.EventSubscription
		want          bool
	}{
		{name: "the exact type", subscriptions: []models.EventSubscription{to(exact)}, want: true},
		{name: "another type", subscriptions: []models.EventSubscription{to("sh.keptn.event.release.triggered")}},
		{name: "one token for any", subscriptions: []models.EventSubscription{to("sh.keptn.event.*.triggered")}, want: true},
		{name: "the rest for any", subscriptions: []models.EventSubscription{to("sh.keptn.>")}, want: true},
		{name: "a pattern for the rest needs one token", subscriptions: []models.EventSubscription{to(exact + ".>")}},
		{name: "a longer type", subscriptions: []models.EventSubscription{to(exact + ".x")}},
		{
			name:          "a filter lists it",
			subscriptions: []models.EventSubscription{filtered(exact, []string{"x", "p"}, []string{"s"}, []string{"v"})},
			want:          true,
		},
		{name: "a filter does not list it", subscriptions: []models.EventSubscription{filtered(exact, []string{"p"}, []string{"x"}, nil)}},
		{name: "one of several subscriptions matches", subscriptions: []models.EventSubscription{to("x"), to(exact)}, want: true},
		{name: "none"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := subscribed(test.subscriptions...).Match(exact, task); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// registry is Keptn's list of integrations. It sometimes forgets one.
type registry struct {
	mutex         sync.Mutex
	registered    int
	unregistered  int
	forgotten     bool
	subscriptions []models.EventSubscription
}

func (r *registry) Register(context.Context, models.Integration) (string, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.registered++
	r.forgotten = false
	return "id", nil
}

func (r *registry) Unregister(context.Context, string) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.unregistered++
	return nil
}

func (r *registry) Ping(context.Context, string) (models.Integration, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.forgotten {
		return models.Integration{}, &api.StatusError{Code: http.StatusNotFound, Own: true}
	}
	return models.Integration{Subscriptions: r.subscriptions}, nil
}

// never says that nothing is uninstalled.
func never(context.Context) bool { return false }

func TestSubscriptionsFollowKeptn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &registry{subscriptions: []models.EventSubscription{to("one")}}
		subscriptions := NewSubscriptions(r, models.Integration{Subscriptions: []models.EventSubscription{to("first")}}, time.Second, never, discard)
		done, changed := make(chan error, 1), subscriptions.Changed()
		expect := func(want ...string) {
			t.Helper()
			if difference := cmp.Diff(want, subscriptions.Types()); difference != "" {
				t.Errorf("types (-want +got):\n%s", difference)
			}
		}
		expect("first")
		go func() { done <- subscriptions.Run(ctx) }()
		<-changed
		expect("one")
		changed = subscriptions.Changed()
		r.mutex.Lock()
		r.subscriptions, r.forgotten = []models.EventSubscription{to("one"), to("two"), to("two"), to("sh.keptn.>")}, true
		r.mutex.Unlock()
		<-changed
		expect("one", "two", "sh.keptn.>")
		if r.registered != 2 {
			t.Errorf("it registered %d times", r.registered)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestIntegrationIsUnregisteredOnlyIfItIsUninstalled(t *testing.T) {
	for name, uninstalled := range map[string]bool{"a restart": false, "uninstalled": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r := &registry{}
				subscriptions := NewSubscriptions(
					r,
					models.Integration{},
					time.Second,
					func(ctx context.Context) bool { return uninstalled && ctx.Err() == nil },
					discard,
				)
				if err := subscriptions.Run(ctx); err != nil {
					t.Fatal(err)
				}
				want := 0
				if uninstalled {
					want = 1
				}
				if r.unregistered != want || r.registered != 1 {
					t.Errorf("registered %d times, unregistered %d times", r.registered, r.unregistered)
				}
			})
		})
	}
}
