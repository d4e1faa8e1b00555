package simulation

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/keptn"
)

// stream is Keptn's JetStream stream. Keptn handles published events in its own order, and the bridge's durable
// consumer receives each until it acknowledges.
type stream struct {
	world *world
	// handle passes an event to shipyard-controller, and hear to the subscribers of core NATS, which also get
	// duplicates.
	handle, hear func(content []byte)

	mutex   sync.Mutex
	known   map[string]time.Time
	pending []*message
	// handledUpTo is when Keptn will have handled the last published event.
	handledUpTo time.Time
	// handling is Keptn's, one event at a time.
	handling sync.Mutex
}

type message struct {
	subject    string
	content    []byte
	deliveries int
	// next is the time of the next delivery.
	next time.Time
}

const (
	duplicateWindow = 2 * time.Minute
	ackWait         = 30 * time.Second
	retryDelay      = 2 * time.Second
	// aside is how much earlier Keptn may handle an event than the previous one.
	aside = 5 * time.Second
)

func newStream(w *world) *stream {
	return &stream{world: w, known: map[string]time.Time{}}
}

// publish stores an event; an id that was stored shortly before is a duplicate.
func (s *stream) publish(subject string, content []byte, id string) {
	s.world.searchLeaks("Keptn's event "+subject, content)
	go func() {
		time.Sleep(between(s.world.chance.draw("subscribers hear %s", content), time.Microsecond, 20*time.Millisecond))
		s.hear(content)
	}()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if id != "" {
		if at, ok := s.known[id]; ok && time.Since(at) < duplicateWindow {
			return
		}
		s.known[id] = time.Now()
	}
	if _, phase, ok := keptn.ParseType(subject); ok {
		s.pending = append(s.pending, &message{subject: subject, content: content})
		if phase == keptn.Triggered {
			s.world.published(content)
		}
	}
	lag, deaths := s.lag(subject, content), s.world.keptnDeaths.Load()
	// Keptn fetches events in order, and handles them concurrently.
	if behind := time.Until(s.handledUpTo); behind > 0 {
		lag = max(lag, behind-aside)
	}
	if until := time.Now().Add(lag); until.After(s.handledUpTo) {
		s.handledUpTo = until
	}
	go func() {
		time.Sleep(lag)
		isHeld := s.world.keptnDown.Load() && s.world.chance.draw("who holds %s", content).Float64() < 0.5 //nolint:mnd // half of them
		redelivery := time.Now().Add(ackWait)
		// Keptn later handles events that were published during its downtime.
		for s.world.keptnDown.Load() && s.world.ctx.Err() == nil {
			time.Sleep(time.Second)
		}
		if isHeld {
			time.Sleep(time.Until(redelivery)) // by the dying shipyard-controller
		}
		s.handling.Lock()
		defer s.handling.Unlock()
		if s.world.ctx.Err() == nil && !s.isLost(subject, content, deaths) {
			s.handle(content)
		}
	}()
}

// hear passes an event of the stream to the subscribers of core NATS, again for each publication.
func (w *world) hear(content []byte) {
	if answer, err := keptn.DecodeEvent(content); err == nil && strings.HasPrefix(answer.Source(), keptn.Source) {
		w.mutex.Lock()
		if w.heard[answer.ID()] {
			w.happened["an answer of ours was published twice"]++
		}
		w.heard[answer.ID()] = true
		var published taskEvent
		if json.Unmarshal(content, &published) == nil && w.unstored(published.Type) {
			w.missed[published.TriggeredID] = append(w.missed[published.TriggeredID], published)
		}
		w.mutex.Unlock()
	}
	w.keptn.Hear(content)
}

// isLost reports whether Keptn never handles our answer after acknowledging it, for example because it died (K4
// of a real Keptn 1.4.5). Its own triggered events are in its database.
func (s *stream) isLost(subject string, content []byte, deaths int64) bool {
	world := s.world
	answer, err := keptn.DecodeEvent(content)
	_, phase, ok := keptn.ParseType(subject)
	if err != nil || !ok || phase == keptn.Triggered || !strings.HasPrefix(answer.Source(), keptn.Source) || world.planned != nil || !world.faulty() {
		return false
	}
	chance := doubleChance
	if world.keptnDeaths.Load() != deaths {
		chance = 0.5
	}
	if world.chance.draw("Keptn loses %s", content).Float64() >= chance {
		return false
	}
	world.happen("Keptn never handled a " + string(phase) + " event that it had acknowledged")
	return true
}

// lag returns how long Keptn takes to handle an accepted event. Idle, it holds one of a hundred events for up
// to five seconds (it fetches ten at a time). Busy, it is up to five minutes late with everything. Keptn has already
// handled its own events.
func (s *stream) lag(subject string, content []byte) time.Duration {
	random := s.world.chance.draw("Keptn handles %s", content)
	quick := between(random, time.Microsecond, time.Millisecond)
	if _, phase, ok := keptn.ParseType(subject); !ok || phase == keptn.Triggered {
		return quick
	}
	switch {
	case s.world.planned != nil:
		s.world.mutex.Lock()
		defer s.world.mutex.Unlock()
		return quick + s.world.planned.lag
	case s.world.faulty() && s.world.busy:
		minute := int(time.Since(s.world.began).Minutes())
		return between(s.world.chance.draw("Keptn's backlog in minute %d", minute), time.Millisecond, 5*time.Minute) + between(random, time.Millisecond, aside)
	case random.Float64() < 0.01: //nolint:mnd // as measured on a real one
		return between(random, time.Millisecond, 5*time.Second)
	default:
		return quick
	}
}

// connection is a bridge's view of the stream.
type connection struct {
	stream  *stream
	process *process
}

// Send publishes an event, as nats.Transport does.
func (c *connection) Send(ctx context.Context, outgoing event.Event) error {
	what := "publish " + outgoing.Type() + " " + outgoing.ID()
	c.process.await(ctx, what)
	failure := c.process.fails(what)
	if failure == before || ctx.Err() != nil {
		return errDown
	}
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	c.stream.publish(outgoing.Type(), content, outgoing.ID())
	c.process.await(ctx, "the acknowledgement of "+what)
	if failure == after {
		return errDown
	}
	return nil
}

// MaxBytes is not known.
func (c *connection) MaxBytes() int { return 0 }

// Receive delivers pending events until they are accepted, or not wanted.
func (c *connection) Receive(ctx context.Context, in intake.Intake) error {
	const interval = 50 * time.Millisecond
	var group sync.WaitGroup
	defer group.Wait()
	c.process.await(ctx, "to receive")
	in.Receiving()
	for ctx.Err() == nil {
		for _, message := range c.stream.due() {
			if !in.Wants(message.subject) {
				c.stream.acknowledge(message)
				continue
			}
			group.Go(func() { c.deliver(ctx, message, in.Publish) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
	return nil
}

func (s *stream) due() []*message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var due []*message
	for _, message := range s.pending {
		if !time.Now().Before(message.next) {
			message.next = time.Now().Add(ackWait)
			message.deliveries++
			due = append(due, message)
		}
	}
	return due
}

func (c *connection) deliver(ctx context.Context, m *message, take intake.Publish) {
	stream := c.stream
	triggered, err := keptn.DecodeEvent(m.content)
	if err != nil {
		stream.world.violate("Keptn published what is no event: %v", err)
		return
	}
	c.process.await(ctx, "message "+triggered.ID())
	origin := intake.Published
	if m.deliveries > 1 {
		origin = intake.Listed
	}
	// A living process extends its deadline; a dead one does not.
	working, done := context.WithCancel(ctx)
	defer done()
	go func() {
		for working.Err() == nil && !c.process.dead() {
			stream.mutex.Lock()
			m.next = time.Now().Add(ackWait)
			stream.mutex.Unlock()
			select {
			case <-working.Done():
			case <-c.process.ctx.Done():
			case <-time.After(ackWait / 3):
			}
		}
	}()
	err = take(ctx, triggered, origin)
	c.process.await(ctx, "to settle message "+triggered.ID())
	if ctx.Err() != nil || c.process.fails("settling message "+triggered.ID()) != none {
		return
	}
	if err != nil {
		stream.mutex.Lock()
		defer stream.mutex.Unlock()
		m.next = time.Now().Add(retryDelay)
		return
	}
	stream.acknowledge(m)
}

func (s *stream) acknowledge(m *message) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for index, pending := range s.pending {
		if pending == m {
			s.pending = append(s.pending[:index:index], s.pending[index+1:]...)
			return
		}
	}
}
