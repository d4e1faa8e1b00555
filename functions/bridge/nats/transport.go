package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	natsclient "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/functions/bridge/intake"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// stream is the name of Keptn's JetStream stream (recording 56-jetstream).
	stream = "keptn"
	// taskSubjects are all events of tasks and sequences. NATS 2.9.11 of Keptn's chart allows only one
	// filter subject per consumer, so the inbox filters.
	taskSubjects = "sh.keptn.event.>"
	// inactiveThreshold is when NATS deletes an unused consumer, for example after an uninstallation.
	inactiveThreshold = 24 * time.Hour
	// pullHeartbeat is how soon a broken connection is detected.
	pullHeartbeat = 5 * time.Second
	// unlimited is the number of unacknowledged events. With a limit, failing events of one type would
	// delay events of other types.
	unlimited = -1
	// ackWait is when NATS redelivers an event of a bridge that died. A living bridge extends it every
	// heartbeat.
	ackWait     = 30 * time.Second
	heartbeat   = 10 * time.Second
	setUpPause  = 2 * time.Second
	lookTimeout = 5 * time.Second
	// messageHeaders is the part of NATS' payload limit for headers.
	messageHeaders = 4 << 10
)

// Transport exchanges events with Keptn over its JetStream stream. Safe for concurrent use.
type Transport struct {
	connection *natsclient.Conn
	stream     jetstream.JetStream
	// durable is the name of the consumer, which survives restarts. Each installation has its own.
	durable string
	log     *slog.Logger
}

// Connect returns a transport that connects to an address in the background, and reconnects for ever. The
// name of the consumer is derived from the installation. It returns an error if the address or an option is
// invalid.
func Connect(address, installation string, log *slog.Logger, options ...natsclient.Option) (*Transport, error) {
	connection, err := natsclient.Connect(address, append(options,
		natsclient.Name("job-executor-bridge"), natsclient.MaxReconnects(-1), natsclient.RetryOnFailedConnect(true),
		// The cause of a refusal may be fixed, for example with a new password.
		natsclient.IgnoreAuthErrorAbort(),
		natsclient.DisconnectErrHandler(func(_ *natsclient.Conn, err error) { log.Warn("disconnected from NATS", "error", err) }),
		natsclient.ReconnectHandler(func(*natsclient.Conn) { log.Info("reconnected to NATS") }),
	)...)
	if err != nil {
		return nil, err
	}
	created, err := jetstream.New(connection)
	if err != nil {
		return nil, fmt.Errorf("set up JetStream: %w", err)
	}
	return &Transport{connection: connection, stream: created, durable: durableName(installation), log: log}, nil
}

// durableName replaces the characters that NATS does not allow in a consumer's name.
func durableName(installation string) string {
	return strings.Map(func(character rune) rune {
		if strings.ContainsRune(" .*>/\\\t\r\n", character) {
			return '_'
		}
		return character
	}, installation)
}

// Close closes the connection.
func (t *Transport) Close() { t.connection.Close() }

// MaxBytes returns the largest event that the server accepts, 0 while disconnected. The server closes the
// connection after a larger one (recording 53-oversize-nats).
func (t *Transport) MaxBytes() int {
	return max(0, int(t.connection.MaxPayload())-messageHeaders)
}

// Send publishes an event and waits until the stream has stored it. The message has the event's id, so the
// stream drops duplicates within two minutes.
func (t *Transport) Send(ctx context.Context, outgoing event.Event) error {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	if _, err := t.stream.Publish(ctx, outgoing.Type(), content, jetstream.WithMsgID(outgoing.ID())); err != nil {
		return fmt.Errorf("publish event %s: %w", outgoing.ID(), err)
	}
	return nil
}

// Receive passes events of the stream to the intake until the context ends. It acknowledges an event only
// after the intake has taken it. If a NATS without storage lost the consumer, Receive creates it again and
// lists the events that were published meanwhile. The error is always nil.
func (t *Transport) Receive(ctx context.Context, in intake.Intake) error {
	for ctx.Err() == nil {
		consumer, err := t.consumer(ctx)
		if err == nil {
			err = t.consume(ctx, consumer, in)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		t.log.WarnContext(ctx, "no consumer on Keptn's stream; retrying", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(setUpPause):
		}
	}
	return nil
}

// consumer creates or updates the durable consumer. It starts with new events: older ones are listed.
func (t *Transport) consumer(ctx context.Context) (jetstream.Consumer, error) {
	return t.stream.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: t.durable, FilterSubject: taskSubjects, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, DeliverPolicy: jetstream.DeliverNewPolicy, MaxAckPending: unlimited, InactiveThreshold: inactiveThreshold,
	})
}

// consume passes events on until the context ends, and then waits for those in flight. It returns an error
// if the consumer does not exist any more.
func (t *Transport) consume(ctx context.Context, consumer jetstream.Consumer, in intake.Intake) error {
	var inFlight sync.WaitGroup
	doubts := make(chan error, 1)
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		eventType := message.Subject()
		if !in.Wants(eventType) {
			t.settle(ctx, message.Ack)
			return
		}
		// NATS would redeliver all events of a burst at the same moments, after growing pauses. So they wait here, as long
		// as there is memory.
		turn, ok := in.Lanes.Queue(eventType, len(message.Data()))
		if !ok {
			t.sendBack(ctx, message, backoff(message))
			return
		}
		inFlight.Go(func() { t.receive(ctx, message, turn, in.Publish) })
	}, jetstream.PullMaxMessages(intake.ConcurrentSends), jetstream.PullHeartbeat(pullHeartbeat), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		select {
		case doubts <- err:
		default:
		}
	}))
	if err != nil {
		return fmt.Errorf("consume stream %s: %w", stream, err)
	}
	t.log.InfoContext(ctx, "receiving events", "stream", stream, "consumer", t.durable, "subject", taskSubjects)
	in.Receiving()
	var gone error
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting = false
		case err := <-doubts:
			t.log.WarnContext(ctx, "receiving from NATS", "error", err)
			gone = t.lookForConsumer(ctx)
			waiting = gone == nil
		}
	}
	consuming.Stop()
	<-consuming.Closed()
	inFlight.Wait()
	return gone
}

// lookForConsumer returns an error if the stream or the consumer does not exist. It returns nil if NATS cannot
// be asked.
func (t *Transport) lookForConsumer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := t.stream.Consumer(ctx, stream, t.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return nil
}

func (t *Transport) receive(ctx context.Context, message jetstream.Msg, turn intake.Turn, publish intake.Publish) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				t.settle(ctx, message.InProgress)
			}
		}
	}()
	leave, ok := turn(ctx)
	if !ok {
		t.sendBack(ctx, message, 0) // for the next bridge
		return
	}
	defer leave()
	triggered, err := keptn.DecodeEvent(message.Data())
	if err != nil {
		t.log.WarnContext(ctx, "ignoring a message: not a CloudEvent", "subject", message.Subject(), "error", err)
		t.settle(ctx, message.Term)
		return
	}
	origin := intake.Published
	if deliveries(message) != 1 {
		// A process may have published the event and died before the acknowledgement. The task may be over.
		origin = intake.Listed
	}
	if err := publish(ctx, triggered, origin); err != nil {
		pause := backoff(message)
		if !errors.Is(err, function.ErrBackoff) {
			t.log.WarnContext(ctx, "event not published; retrying", "id", triggered.ID(), "type", triggered.Type(), "pause", pause.String(), "error", err)
		}
		t.sendBack(ctx, message, pause)
		return
	}
	t.settle(ctx, message.Ack)
}

// deliveries returns how often NATS has delivered a message, 0 if unknown.
func deliveries(message jetstream.Msg) uint64 {
	metadata, err := message.Metadata()
	if err != nil {
		return 0
	}
	return metadata.NumDelivered
}

// backoff returns the pause before the next delivery of a message.
func backoff(message jetstream.Msg) time.Duration { return intake.Backoff(max(deliveries(message), 1)) }

func (t *Transport) sendBack(ctx context.Context, message jetstream.Msg, pause time.Duration) {
	t.settle(ctx, func() error { return message.NakWithDelay(pause) })
}

// settle only logs errors: NATS redelivers unsettled messages.
func (t *Transport) settle(ctx context.Context, settle func() error) {
	if err := settle(); err != nil {
		t.log.WarnContext(ctx, "settling a message of NATS failed", "error", err)
	}
}
