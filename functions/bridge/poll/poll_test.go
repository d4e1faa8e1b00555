package poll

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/intake"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/fixture"
)

// lister has one open event from the second look on; the first fails.
type lister struct{ looks int }

func (l *lister) OpenTriggered(context.Context, string) ([]event.Event, error) {
	l.looks++
	if l.looks == 1 {
		return nil, errDown
	}
	return []event.Event{triggered(task)}, nil
}

func TestPollerGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		broker := &fixture.Broker{}
		inbox := newInbox(broker, &fixture.Counter{Answer: keptn.Count{Standing: keptn.Current}})
		l := &lister{}
		poller := &Poller{
			Metrics:       &fixture.Metrics{},
			Lister:        l,
			Subscriptions: inbox.Subscriptions,
			Publish:       inbox.Publish,
			Lanes:         &intake.Lanes{},
			Interval:      time.Second,
			Jitter:        func(most time.Duration) time.Duration { return most },
			Log:           discard,
		}
		done := make(chan error, 1)
		go func() { done <- poller.Run(ctx) }()
		time.Sleep(20 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if difference := cmp.Diff([]string{"1"}, broker.IDs()); difference != "" || l.looks < 15 {
			t.Errorf("%d looks, taken (-want +got):\n%s", l.looks, difference)
		}
	})
}

func TestPollerTellsWhatBringsNothing(t *testing.T) {
	for name, alone := range map[string]bool{"over HTTP": true, "beside NATS": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var log strings.Builder
				poller := &Poller{
					Metrics: &fixture.Metrics{},
					Lister:  &lister{}, Subscriptions: subscribed(to("sh.keptn.event.*.triggered"), to("sh.keptn.event.test.finished")), Interval: time.Second, Alone: alone,
					Jitter: func(most time.Duration) time.Duration { return most }, Log: slog.New(slog.NewTextHandler(&log, nil)),
				}
				if err := poller.Run(ctx); err != nil {
					t.Fatal(err)
				}
				want := 0
				if alone {
					want = 1
				}
				if got := strings.Count(log.String(), "[sh.keptn.event.*.triggered sh.keptn.event.test.finished]"); got != want {
					t.Errorf("it was told %d times: %s", got, &log)
				}
			})
		})
	}
}

// hundred lists many events of each type. The broken type fails, is slow, or has an executor that does not come
// up.
type hundred struct{ broken string }

const manyEvents = 3 * intake.ConcurrentSends

func (h hundred) OpenTriggered(ctx context.Context, eventType string) ([]event.Event, error) {
	switch {
	case eventType != stuckType:
	case h.broken == "is not listed":
		return nil, errDown
	case h.broken == "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var events []event.Event
	for index := range manyEvents {
		created := triggered(task)
		created.SetType(eventType)
		created.SetID(fmt.Sprintf("%s-%d", eventType, index))
		events = append(events, created)
	}
	return events, nil
}

const stuckType = "sh.keptn.event.stuck.triggered"

func TestOneTypeDoesNotHoldUpTheOthers(t *testing.T) {
	for _, broken := range []string{"is not listed", "hangs", "has an executor that does not come up"} {
		t.Run(broken, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var mutex sync.Mutex
				taken := map[string]int{}
				subscriptions := []models.EventSubscription{to(stuckType)}
				for index := range 99 {
					subscriptions = append(subscriptions, to(fmt.Sprintf("sh.keptn.event.test-%d.triggered", index)))
				}
				poller := &Poller{
					Metrics: &fixture.Metrics{},
					Lister:  hundred{broken}, Subscriptions: subscribed(subscriptions...), Lanes: &intake.Lanes{}, Interval: time.Second,
					Publish: func(ctx context.Context, triggered event.Event, _ intake.Origin) error {
						if triggered.Type() == stuckType {
							<-ctx.Done()
							return ctx.Err()
						}
						mutex.Lock()
						defer mutex.Unlock()
						taken[triggered.ID()]++
						return nil
					},
					Jitter: func(time.Duration) time.Duration { return 0 }, Log: discard,
				}
				go func() { _ = poller.Run(ctx) }()
				time.Sleep(10500 * time.Millisecond)
				mutex.Lock()
				defer mutex.Unlock()
				for index := range 99 {
					// The first third fills the lane at once; the others are listed again.
					if times := taken[fmt.Sprintf("sh.keptn.event.test-%d.triggered-%d", index, manyEvents-1)]; times < 10 {
						t.Fatalf("events of type %d were taken %d times in ten seconds", index, times)
					}
				}
			})
		})
	}
}

// Keptn lists the newest first, but the oldest is published first.
func TestPollerTakesTheOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		taken := make(chan string, manyEvents)
		lanes := &intake.Lanes{}
		for range intake.ConcurrentSends - 1 { // one at a time
			lanes.Wait(ctx, "sh.keptn.event.test.triggered")
		}
		poller := &Poller{
			Metrics: &fixture.Metrics{},
			Lister:  hundred{}, Subscriptions: subscribed(to("sh.keptn.event.test.triggered")), Lanes: lanes, Interval: time.Hour,
			Publish: func(_ context.Context, triggered event.Event, _ intake.Origin) error {
				taken <- triggered.ID()
				return nil
			},
			Jitter: func(time.Duration) time.Duration { return 0 }, Log: discard,
		}
		if err := poller.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for index := manyEvents - 1; index >= 0; index-- {
			if got := <-taken; got != fmt.Sprintf("sh.keptn.event.test.triggered-%d", index) {
				t.Fatalf("%s was taken when %d was due", got, index)
			}
		}
	})
}

// registry is Keptn's list of integrations, with one subscription.
type registry struct {
	current atomic.Pointer[models.Integration]
}

func (r *registry) subscribe(eventType string) {
	r.current.Store(&models.Integration{Subscriptions: []models.EventSubscription{to(eventType)}})
}

func (r *registry) Register(context.Context, models.Integration) (string, error) { return "id", nil }
func (r *registry) Unregister(context.Context, string) error                     { return nil }
func (r *registry) Ping(context.Context, string) (models.Integration, error) {
	return *r.current.Load(), nil
}

func TestPollerListsOnlyWhatIsSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		keptnsSide := &registry{}
		keptnsSide.subscribe("sh.keptn.event.test.triggered")
		subscriptions := intake.NewSubscriptions(keptnsSide, models.Integration{Subscriptions: []models.EventSubscription{to("sh.keptn.event.test.triggered")}},
			time.Second, func(context.Context) bool { return false }, discard)
		go func() { _ = subscriptions.Run(ctx) }()
		taken := make(chan string, 10*manyEvents)
		poller := &Poller{
			Metrics: &fixture.Metrics{},
			Lister:  hundred{}, Subscriptions: subscriptions, Lanes: &intake.Lanes{}, Interval: time.Hour,
			Publish: func(_ context.Context, triggered event.Event, _ intake.Origin) error {
				taken <- triggered.Type()
				return nil
			},
			Jitter: func(time.Duration) time.Duration { return 0 }, Log: discard,
		}
		go func() { _ = poller.Run(ctx) }()
		synctest.Wait()
		if len(taken) != manyEvents {
			t.Errorf("of %d events that were listed %d were taken, before they were listed again", manyEvents, len(taken))
		}
		for range len(taken) {
			<-taken
		}
		keptnsSide.subscribe("sh.keptn.event.deployment.triggered")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(taken) == 0 {
			t.Error("what is subscribed now was not listed at once")
		}
		poller.Soon()
		synctest.Wait()
		for range len(taken) {
			if got := <-taken; got != "sh.keptn.event.deployment.triggered" {
				t.Fatalf("%s was taken", got)
			}
		}
	})
}

// The log says why an event was not published, but not that the bridge ends.
func TestWhatIsNotTakenIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, ends := range map[string]bool{"it fails": false, "the bridge ends": true} {
			var log bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			poller := &Poller{
				Metrics: &fixture.Metrics{}, Lanes: &intake.Lanes{}, Log: slog.New(slog.NewTextHandler(&log, nil)),
				Publish: func(context.Context, event.Event, intake.Origin) error {
					if ends {
						cancel()
					}
					return errDown
				},
			}
			poller.start(ctx, triggered(task))
			poller.group.Wait()
			cancel()
			if got := strings.Contains(log.String(), "event not published; retrying"); got == ends {
				t.Errorf("%s: the log has %q", name, log.String())
			}
		}
	})
}
